"""An account of which every text is hostile, or as long as it may be."""

from collections.abc import Callable

from playwright.sync_api import Browser

from browser.running import Dashboard
from browser.seed import Seed, signed_in
from e2e.receiver import Received, Response
from e2e.system import until
from streams.core.limits import (
    DESCRIPTION_CHARACTERS,
    ID_CHARACTERS,
    NAME_CHARACTERS,
    RESPONSE_KEPT_BYTES,
    TEXT_CHARACTERS,
    URL_CHARACTERS,
)

# HTML, a right-to-left override, a control character, a template, and no place to break the line.
HOSTILE = "<b data-hostile>\"'&amp;\u202e\x07{{7*7}}" + "W" * 150
BINARY = bytes(range(256)) * (RESPONSE_KEPT_BYTES // 256)
EVENT_ID = "evt_" + "x" * (ID_CHARACTERS - 4)


def seed_hostile(dashboard: Dashboard, browser: Browser) -> Seed:
    """The same ids as the account of `seed_customer`, so that every page exists."""
    mallory = dashboard.customer(HOSTILE[:NAME_CHARACTERS], ("ops@mallory.example",))
    user = dashboard.user(mallory, "m" * 60 + "@mallory.example")
    dashboard.user(dashboard.customer(HOSTILE[:NAME_CHARACTERS]), "m" * 60 + "@mallory.example")
    base = dashboard.receiver.url("/" + "u" * URL_CHARACTERS)[: URL_CHARACTERS - 1]
    paths = {name: base + name for name in ("1", "2", "3")}
    for status, url in ((200, paths["1"]), (500, paths["2"]), (500, paths["3"])):
        dashboard.receiver.responses["/" + url.split("/", 3)[3]] = responding(status)
    text = {"description": HOSTILE.ljust(DESCRIPTION_CHARACTERS, "D"), "packages": ["p" * ID_CHARACTERS]}
    healthy, failing, paused = (
        mallory.webhook(url, **text, events=[event_type])
        for url, event_type in zip(
            paths.values(), ("session.completed", "package.updated", "session.launched"), strict=True
        )
    )
    data = {"packageId": "p" * ID_CHARACTERS}
    learner = HOSTILE.ljust(TEXT_CHARACTERS, "L")
    mallory.publish(EVENT_ID, "session.completed", **data, learnerId=learner)
    mallory.publish(EVENT_ID[:-1] + "y", "package.updated", **data, title=learner)
    for number in range(4):
        mallory.publish(f"{EVENT_ID[:-1]}{number}", "session.launched", **data, learnerId=learner)
    [delivered] = mallory.wait_for(1, webhookId=healthy, state="delivered")
    [waiting] = mallory.wait_for(1, webhookId=failing, state="waiting")
    mallory.wait_for(2, webhookId=paused, state="held")
    key = {"name": HOSTILE[:NAME_CHARACTERS], "scopes": ["webhooks:read"]}
    assert dashboard.operator.post(f"/v1/accounts/{mallory.id}/keys", json=key).is_success
    job = mallory.post("/v1/dead-letters/retry", {"filter": {}})
    until(lambda: "finishedAt" in mallory.api.get(f"/v1/jobs/{job['id']}").json(), 20, "the job")
    ids = {"healthy": healthy, "failing": failing, "paused": paused, "job": job["id"]}
    ids |= {"waiting": waiting["id"], "delivered": delivered["id"]}
    return Seed(mallory, ids, signed_in(browser, dashboard, mallory, user))


def responding(status: int) -> Callable[[Received], Response]:
    """An endpoint whose response is hostile."""
    headers = {"X-Hostile": "<b data-hostile>" + "H" * 300}
    return lambda request: Response(status, BINARY, headers)
