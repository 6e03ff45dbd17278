"""An account with something on every page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from browser.chromium import open_context, sign_in
from browser.database import add_earlier_traffic
from browser.pages import Visitor
from browser.running import OPERATOR_KEY, Customer, Dashboard
from e2e.receiver import Response
from e2e.system import until

# A failed delivery waits in the last tier for as long as tests run.
SETTINGS = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,30m"}
JSON = {"Content-Type": "application/json"}
FIRST_KEPT = "evt_01HYX9K2M3N4P5Q6R7S8T9Z100"


@dataclass(frozen=True)
class Seed:
    """An account, the ids of what is on its pages, and the cookies of each visitor."""

    customer: Customer
    ids: dict[str, str]
    cookies: Mapping[Visitor, Any]

    def path(self, template: str) -> str:
        return template.format(**self.ids)


def cookies_of(
    browser: Browser, dashboard: Dashboard, customer: Customer, owner: str, viewer: str
) -> Mapping[Visitor, Any]:
    """The cookies of each visitor; `owner` and `viewer` are ids of users."""
    return {
        "owner": _cookies(
            browser, dashboard, lambda context: sign_in(context, dashboard.sign_in_link(customer, owner))
        ),
        "viewer": _cookies(
            browser, dashboard, lambda context: sign_in(context, dashboard.sign_in_link(customer, viewer))
        ),
        "operator": _cookies(browser, dashboard, sign_in_as_operator),
        "guest": None,
    }


def _cookies(browser: Browser, dashboard: Dashboard, enter: Callable[[BrowserContext], Page]) -> Any:
    with open_context(browser, dashboard.url) as (context, _):
        enter(context)
        return context.storage_state()


def sign_in_as_operator(context: BrowserContext) -> Page:
    """By the form of the operator key."""
    page = context.new_page()
    page.goto("/operator/sign-in")
    page.get_by_label("Operator key").fill(OPERATOR_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Accounts", exact=True)).to_be_visible()
    return page


def seed_customer(dashboard: Dashboard, browser: Browser) -> Seed:
    """Webhooks that are healthy, failing and paused; dead letters of several reasons; a rotation; mails; people."""
    acme = dashboard.customer("Acme Learning", ("ops@acme.example",))
    ada = dashboard.user(acme, "ada@acme.example")
    dashboard.user(acme, "ben@acme.example", "member")
    chen = dashboard.user(acme, "chen@acme.example", "viewer")
    dashboard.user(dashboard.customer("Globex Training"), "ada@acme.example", "viewer")
    ids = {"healthy": _healthy(dashboard, acme), "failing": _failing(dashboard, acme)}
    add_earlier_traffic(dashboard.folder, ids["healthy"])
    ids["paused"] = _paused(dashboard, acme)
    _gone(dashboard, acme)
    _deleted(dashboard, acme)
    _kept(dashboard, acme)
    ids["pulled"] = acme.post("/v1/webhooks", {"delivery": "pull", "events": ["session.reset"]})["id"]
    for number in range(2):
        acme.publish(f"evt_01HYX9K2M3N4P5Q6R7S8T9P{number:03}", "session.reset")
    acme.wait_for(2, webhookId=ids["pulled"], state="held")
    ids["given_back"] = given_back(acme, ids["pulled"])
    ids["job"] = finished_job(acme, "discard", {"reason": "kept", "eventId": FIRST_KEPT})
    ids["erasure"] = acme.post("/v1/learners/erase", {"learnerId": "learner-who-left"})["id"]
    [waiting] = acme.wait_for(1, webhookId=ids["failing"], state="waiting")
    delivered = acme.wait_for(12, webhookId=ids["healthy"], state="delivered")
    ids |= {"waiting": waiting["id"], "delivered": delivered[0]["id"]}
    ids["link"] = dashboard.portal_token(acme)
    dashboard.mail("ops@acme.example", "2 webhooks paused")
    return Seed(acme, ids, cookies_of(browser, dashboard, acme, ada, chen))


def _healthy(dashboard: Dashboard, acme: Customer) -> str:
    """One with traffic, of which the secret rotates."""
    dashboard.receiver.responses["/crm"] = lambda request: Response(200, b'{"status":"queued"}', JSON)
    url = dashboard.receiver.url("/crm")
    webhook_id = acme.webhook(url, description="CRM: training status of contacts", events=["session.completed"])
    for number in range(12):
        acme.publish(f"evt_01HYX9K2M3N4P5Q6R7S8T9V0{number:02}", learnerId=f"learner-{number}")
    acme.post(f"/v1/webhooks/{webhook_id}/test", {})
    acme.post(f"/v1/webhooks/{webhook_id}/secret/rotate", {"overlapHours": 24})
    return webhook_id


def _failing(dashboard: Dashboard, acme: Customer) -> str:
    """One that failed three times; the next attempt is due in half an hour."""
    dashboard.receiver.responses["/warehouse"] = lambda request: Response(500, b'{"error":"disk full"}', JSON)
    url = dashboard.receiver.url("/warehouse")
    webhook_id = acme.webhook(url, description="Warehouse", events=["package.updated"])
    acme.publish("evt_01HYX9K2M3N4P5Q6R7S8T9W001", "package.updated")
    until(lambda: dashboard.receiver.at("/warehouse")[2:], 20, "three failures")
    return webhook_id


def _paused(dashboard: Dashboard, acme: Customer) -> str:
    """One that failed five times in a row, with held deliveries."""
    dashboard.receiver.responses["/archive"] = lambda request: 503
    webhook_id = acme.webhook(dashboard.receiver.url("/archive"), description="Archive", events=["session.launched"])
    for number in range(4):
        acme.publish(f"evt_01HYX9K2M3N4P5Q6R7S8T9X{number:03}", "session.launched")
    acme.wait_for(2, webhookId=webhook_id, state="held")
    return webhook_id


def _gone(dashboard: Dashboard, acme: Customer) -> None:
    """One that asked for no more events."""
    dashboard.receiver.responses["/billing"] = lambda request: 410
    webhook_id = acme.webhook(dashboard.receiver.url("/billing"), description="Billing", events=["usage.threshold"])
    acme.publish("evt_01HYX9K2M3N4P5Q6R7S8T9Y001", "usage.threshold")
    acme.wait_for(1, webhookId=webhook_id, state="dead")


def _deleted(dashboard: Dashboard, acme: Customer) -> None:
    """One that was deleted while an event was held."""
    webhook_id = acme.webhook(dashboard.receiver.url("/old"), description="The old CRM", events=["session.scored"])
    acme.post(f"/v1/webhooks/{webhook_id}/pause")
    acme.publish("evt_01HYX9K2M3N4P5Q6R7S8T9Z001", "session.scored")
    acme.wait_for(1, webhookId=webhook_id, state="held")
    assert acme.api.delete(f"/v1/webhooks/{webhook_id}").is_success
    acme.wait_for(1, webhookId=webhook_id, state="dead")


def _kept(dashboard: Dashboard, acme: Customer) -> None:
    """One whose held events were kept as dead letters."""
    url = dashboard.receiver.url("/compliance")
    webhook_id = acme.webhook(url, description="Compliance", events=["session.scored"])
    acme.post(f"/v1/webhooks/{webhook_id}/pause")
    for number in range(6):
        acme.publish(f"evt_01HYX9K2M3N4P5Q6R7S8T9Z1{number:02}", "session.scored", scoreRaw=40 + number)
    acme.wait_for(6, webhookId=webhook_id, state="held")
    acme.post(f"/v1/webhooks/{webhook_id}/enable", {"held": "keep"})
    acme.wait_for(6, webhookId=webhook_id, state="dead")
    last = acme.publish("evt_01HYX9K2M3N4P5Q6R7S8T9Z200", "session.scored")
    acme.wait_for(1, eventId=last, webhookId=webhook_id, state="delivered")


def finished_job(customer: Customer, kind: str, wanted: dict[str, str]) -> str:
    """Retry or discard dead letters by a filter, and wait until the job has finished; return its id."""
    job_id = str(customer.post(f"/v1/dead-letters/{kind}", {"filter": wanted})["id"])
    until(lambda: "finishedAt" in customer.api.get(f"/v1/jobs/{job_id}").json(), 20, "the job")
    return job_id


def given_back(customer: Customer, webhook_id: str) -> str:
    """A delivery of a pull webhook that a reader gave back, until the tests have ended."""
    [item] = customer.post(f"/v1/webhooks/{webhook_id}/pull", {"max": 1})["items"]
    customer.post(f"/v1/webhooks/{webhook_id}/nack", {"ids": [item["id"]], "waitSeconds": 12 * 60 * 60})
    return str(item["id"])
