"""An account of which every text is untrusted, or as long as it may be."""

from playwright.sync_api import Browser

from browser.running import Customer, Dashboard
from browser.seed import Seed, cookies_of, finished_job, given_back
from e2e.receiver import Response
from streams.core.limits import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_RESPONSE_BODY_BYTES,
    MAX_TEXT_CHARACTERS,
    MAX_URL_CHARACTERS,
)

# HTML, a right-to-left override, a control character, a template, and no place to break the line.
UNTRUSTED = "<b data-injected>\"'&amp;\u202e\x07{{7*7}}" + "W" * 150
BINARY = bytes(range(256)) * (MAX_RESPONSE_BODY_BYTES // 256)
EVENT_ID = "evt_" + "x" * (MAX_ID_CHARACTERS - 4)
PACKAGE = "p" * MAX_ID_CHARACTERS
NAME = UNTRUSTED[:MAX_NAME_CHARACTERS]
DESCRIPTION = UNTRUSTED.ljust(MAX_DESCRIPTION_CHARACTERS, "D")
EMAIL = f"{'m' * 60}@mallory.example"


def seed_untrusted(dashboard: Dashboard, browser: Browser) -> Seed:
    """The same ids as the account of `seed_customer`, so that every page exists."""
    mallory = dashboard.customer(NAME, ("ops@mallory.example",))
    user = dashboard.user(mallory, EMAIL)
    dashboard.user(dashboard.customer(NAME), EMAIL)
    viewer = dashboard.user(mallory, f"v{EMAIL}", "viewer")
    key = {"name": NAME, "scopes": ["webhooks:read"]}
    assert dashboard.operator.post(f"/v1/accounts/{mallory.id}/keys", json=key).is_success
    webhooks = {
        "healthy": _webhook(dashboard, mallory, "session.completed", 200),
        "failing": _webhook(dashboard, mallory, "package.updated", 500),
        "paused": _webhook(dashboard, mallory, "session.launched", 500),
    }
    _publish(mallory, EVENT_ID, "session.completed")
    _publish(mallory, f"{EVENT_ID[:-1]}y", "package.updated")
    for number in range(4):
        _publish(mallory, f"{EVENT_ID[:-1]}{number}", "session.launched")
    _keep_a_dead_letter(dashboard, mallory)
    [delivered] = mallory.wait_for(1, webhookId=webhooks["healthy"], state="delivered")
    [waiting] = mallory.wait_for(1, webhookId=webhooks["failing"], state="waiting")
    mallory.wait_for(4, webhookId=webhooks["paused"], state="held")
    job_id = finished_job(mallory, "retry", {"reason": "gone"})
    erasure = mallory.post("/v1/learners/erase", {"learnerId": NAME})
    ids = {**webhooks, "job": job_id, "waiting": waiting["id"], "delivered": delivered["id"], "erasure": erasure["id"]}
    pull_webhook = {"delivery": "pull", "description": DESCRIPTION, "events": ["session.reset"]}
    ids["pulled"] = mallory.post("/v1/webhooks", pull_webhook)["id"]
    _publish(mallory, f"{EVENT_ID[:-1]}p", "session.reset")
    mallory.wait_for(1, webhookId=ids["pulled"], state="held")
    ids["given_back"] = given_back(mallory, ids["pulled"])
    ids["link"] = dashboard.portal_token(mallory)
    return Seed(mallory, ids, cookies_of(browser, dashboard, mallory, user, viewer))


def _webhook(dashboard: Dashboard, mallory: Customer, event_type: str, status: int) -> str:
    """A webhook of one event type, with the longest URL and description. Its endpoint's response is untrusted."""
    url = dashboard.receiver.url(f"/{event_type}/").ljust(MAX_URL_CHARACTERS, "u")
    headers = {"X-Untrusted": "<b data-injected>" + "H" * 300}
    dashboard.receiver.responses["/" + url.split("/", 3)[3]] = lambda request: Response(status, BINARY, headers)
    return mallory.webhook(url, description=DESCRIPTION, packages=[PACKAGE], events=[event_type])


def _publish(mallory: Customer, event_id: str, event_type: str) -> None:
    """An event with the longest texts."""
    text = UNTRUSTED.ljust(MAX_TEXT_CHARACTERS, "L")
    more = {"title": text} if event_type == "package.updated" else {"learnerId": text}
    mallory.publish(event_id, event_type, packageId=PACKAGE, **more)


def _keep_a_dead_letter(dashboard: Dashboard, mallory: Customer) -> None:
    webhook_id = _webhook(dashboard, mallory, "session.scored", 200)
    mallory.post(f"/v1/webhooks/{webhook_id}/pause")
    _publish(mallory, f"{EVENT_ID[:-1]}z", "session.scored")
    mallory.wait_for(1, webhookId=webhook_id, state="held")
    mallory.post(f"/v1/webhooks/{webhook_id}/enable", {"held": "keep"})
    mallory.wait_for(1, webhookId=webhook_id, state="dead")
