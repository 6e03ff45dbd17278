"""A new user creates a webhook, sees it fail, repairs it, and loses nothing."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from standardwebhooks import Webhook

from browser.running import Customer, Dashboard, code_in, link_in, running_dashboard
from e2e.receiver import Response
from e2e.system import until

pytestmark = pytest.mark.e2e

ADA = "ada@acme.example"
# Four attempts: fewer than pause a webhook, so that one refused event becomes a dead letter.
SETTINGS = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,3s"}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with running_dashboard(tmp_path_factory.mktemp("story"), SETTINGS) as dashboard:
        yield dashboard


@pytest.fixture
def acme(dashboard: Dashboard) -> Customer:
    acme = dashboard.customer("Acme Learning", (ADA,))
    dashboard.user(acme, ADA)
    return acme


def test_a_new_user_creates_breaks_and_repairs_a_webhook(
    dashboard: Dashboard, acme: Customer, context: BrowserContext, page: Page
) -> None:
    receiver = dashboard.receiver

    # Ada signs in by the code of a mail.
    page.goto("/")
    sign_in_by_code(dashboard, page)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    # She creates a webhook.
    page.get_by_role("link", name="Create the first webhook").click()
    page.get_by_label("URL", exact=True).fill(receiver.url("/crm"))
    page.get_by_label("Description").fill("The CRM")
    page.get_by_role("button", name="Create").click()
    expect(status(page, "Created.")).to_be_visible()
    page.get_by_role("button", name="Reveal").click()
    secret = page.get_by_text("whsec_").inner_text()

    # She sends a test event, and sees its response in place.
    page.get_by_role("button", name="Send").click()
    expect(status(page, "The endpoint responded with 200.")).to_be_visible()
    assert Webhook(secret).verify(receiver.at("/crm")[-1].body, dict(receiver.at("/crm")[-1].headers))

    # Real events arrive.
    acme.publish("evt_first")
    until(lambda: receiver.has_some("/crm", "evt_first"), 20, "the first event")
    open_page(page, "Deliveries")
    until_shown(page, row(page, "evt_first", "delivered"))

    # The receiver breaks: retries, then the pause, and a mail that says so.
    receiver.responses["/crm"] = lambda request: Response(500, b"Stack overflow in crm.py")
    acme.publish("evt_second")
    until_shown(page, row(page, "evt_second", "waiting"))
    acme.publish("evt_third")
    open_page(page, "Overview")
    until_shown(page, page.get_by_text("after 5 failures in a row"))
    mail = dashboard.mail(ADA, "Webhook paused: The CRM")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Send me a code")).to_be_visible()

    # Ada follows the link of the mail, and signs in on the way.
    page = context.new_page()
    page.goto(link_in(mail))
    sign_in_by_code(dashboard, page)
    expect(page.get_by_role("heading", name="The CRM")).to_be_visible()
    until_shown(page, page.get_by_text("2 events are held"))
    page.get_by_role("table").get_by_role("link", name="session.completed").first.click()
    expect(page.get_by_text("Stack overflow in crm.py").last).to_be_visible()

    # She repairs the receiver, sends a test event, and has the held events delivered.
    del receiver.responses["/crm"]
    page.get_by_role("main").get_by_role("link", name="The CRM").click()
    page.get_by_role("button", name="Send").click()
    expect(status(page, "The endpoint responded with 200.")).to_be_visible()
    acme.publish("evt_fourth")
    until_shown(page, page.get_by_text("3 events are held"))
    page.get_by_label("Deliver them, oldest first").check()
    # A reload would cancel the form.
    with page.expect_navigation():
        page.get_by_role("button", name="Enable").click()
    until_shown(page, page.get_by_text("healthy, "))
    open_page(page, "Deliveries")
    for event_id in ("evt_second", "evt_third", "evt_fourth"):
        until_shown(page, row(page, event_id, "delivered"))

    # The receiver refuses one event until it is a dead letter. She retries it.
    receiver.responses["/crm"] = lambda request: Response(422, b"unknown learner")
    acme.publish("evt_refused")
    open_page(page, "Dead letters")
    until_shown(page, row(page, "evt_refused", "All 4 attempts failed."))
    del receiver.responses["/crm"]
    page.get_by_label("evt_refused").check()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("1 dead letter matches, of 1 webhook")).to_be_visible()
    page.get_by_role("button", name="Retry 1").click()
    expect(page.get_by_text("Finished.")).to_be_visible()
    open_page(page, "Deliveries")
    until_shown(page, row(page, "evt_refused", "delivered"))
    assert {"evt_first", "evt_second", "evt_third", "evt_fourth", "evt_refused"} < set(receiver.ids("/crm"))


def sign_in_by_code(dashboard: Dashboard, page: Page) -> None:
    mails = len(dashboard.mailbox.messages)
    page.get_by_label("Your e-mail address").fill(ADA)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code").fill(code_in(dashboard.mail(ADA, "Sign-in code", after=mails)))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def open_page(page: Page, name: str) -> None:
    """By the navigation."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()


def status(page: Page, words: str) -> Locator:
    """What the page says of what was just done."""
    return page.get_by_role("status").filter(has_text=words)


def row(page: Page, event_id: str, words: str) -> Locator:
    """The row of an event that has these words."""
    return page.get_by_role("row").filter(has_text=event_id).filter(has_text=words)


def until_shown(page: Page, wanted: Locator) -> None:
    """Reload the page until it shows this."""

    def is_shown() -> bool:
        page.reload()
        return wanted.first.is_visible()

    until(is_shown, 30, lambda: f"{wanted}:\n{page.locator('main').inner_text()}", every=0.2)
