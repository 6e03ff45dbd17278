"""JavaScript makes forms quicker: a test's outcome in place, one box that checks a list, one request at a time."""

import threading

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from browser.chromium import sign_in
from browser.running import Customer, Dashboard
from e2e.receiver import Response

pytestmark = pytest.mark.e2e


@pytest.fixture
def owner_page(context: BrowserContext, dashboard: Dashboard, acme: Customer) -> Page:
    return sign_in(context, dashboard.sign_in_link(acme, dashboard.user(acme, "ada@acme.example")))


def test_a_test_event_is_answered_in_place(
    dashboard: Dashboard, acme: Customer, owner_page: Page, webhook: str
) -> None:
    page, may_respond = owner_page, threading.Event()

    def respond(request: object) -> Response:
        may_respond.wait(8)
        return Response(200, b"taken")

    dashboard.receiver.responses["/plain"] = respond
    before = len(dashboard.receiver.at("/plain"))
    try:
        page.goto(f"/webhooks/{webhook}")
        latest = page.locator("#latest tbody tr")
        expect(latest).to_have_count(0)
        button = page.get_by_role("button", name="Send")
        button.click()
        expect(page.get_by_text("Sent. The endpoint has 10 seconds to respond.")).to_be_visible()
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_be_focused()
        # A second press sends no second test.
        button.press("Enter")
        may_respond.set()
        expect(page.get_by_role("status").filter(has_text="The endpoint responded with 200.")).to_be_visible()
    finally:
        may_respond.set()
        del dashboard.receiver.responses["/plain"]
    expect(button).to_be_focused()
    expect(button).not_to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text("Sent. The endpoint has 10 seconds to respond.")).to_be_hidden()
    expect(latest).to_have_count(1)
    expect(latest).to_contain_text("test")
    assert len(dashboard.receiver.at("/plain")) == before + 1
    button.click()
    expect(latest).to_have_count(2)


def test_a_chosen_type_shows_its_body_in_place(acme: Customer, owner_page: Page, webhook: str) -> None:
    page = owner_page
    page.goto(f"/webhooks/{webhook}")
    type_field, outcome = page.get_by_label("Type"), page.locator("#test-outcome")
    type_field.select_option("package.updated")
    expect(outcome).to_contain_text("Nothing was sent yet. The body of a test of package.updated")
    expect(outcome.locator("pre").first).to_contain_text('"version": "2"')
    expect(type_field).to_have_value("package.updated")
    page.get_by_role("button", name="Show the body").click()
    expect(outcome.locator("pre").first).to_contain_text('"version": "2"')
    expect(page).to_have_url(f"{page.url.partition('?')[0]}")
    assert acme.deliveries() == []
    page.get_by_role("button", name="Send").click()
    expect(outcome).to_contain_text("The endpoint responded with 200.")
    assert [one["eventType"] for one in acme.deliveries()] == ["package.updated"]


def test_one_box_checks_all_that_are_shown(acme: Customer, owner_page: Page, webhook: str) -> None:
    page = owner_page
    acme.post(f"/v1/webhooks/{webhook}/pause")
    for number in range(3):
        acme.publish(f"evt_all_{number}_{acme.id}")
    acme.wait_for(3, state="held")
    acme.post(f"/v1/webhooks/{webhook}/enable", {"held": "keep"})
    acme.wait_for(3, state="dead")
    page.goto("/dead-letters")
    every = page.get_by_label("check all 3 that are shown")
    every.check()
    rows = page.get_by_role("row").get_by_role("checkbox")
    expect(rows).to_have_count(3)
    rows.first.uncheck()
    expect(every).not_to_be_checked()
    assert every.evaluate("box => box.indeterminate")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("2 dead letters match")).to_be_visible()
    page.go_back()
    every.check()
    every.uncheck()
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing is checked.")
