"""A list updates what is seen, counts what is new, and stops when it would disturb."""

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from browser.running import Customer, Dashboard
from e2e.receiver import Response
from e2e.system import until

pytestmark = pytest.mark.e2e

# LIVE_MS of dashboard.js.
PERIOD_MS = 5_000


def test_a_new_delivery_is_counted_and_no_row_moves(live_page: Page, acme: Customer, webhook: str) -> None:
    delivered(acme, "evt_first")
    live_page.goto("/deliveries")
    delivered(acme, "evt_second")
    link = live_page.get_by_role("link", name="1 new · show")
    until_live(live_page, link)
    expect(rows(live_page)).to_have_count(1)
    expect(rows(live_page)).to_contain_text("evt_first")
    link.click()
    expect(rows(live_page)).to_have_count(2)


def test_the_state_of_a_row_changes_in_place(
    live_page: Page, dashboard: Dashboard, acme: Customer, webhook: str
) -> None:
    dashboard.receiver.responses["/plain"] = lambda request: Response(500, b"broken")
    try:
        changing = acme.publish(f"evt_changing_{acme.id}")
        acme.wait_for(1, eventId=changing, state="waiting")
        live_page.goto("/deliveries")
        row = rows(live_page)
        expect(row).to_contain_text("waiting")
        place = row.get_attribute("id")
    finally:
        del dashboard.receiver.responses["/plain"]
    acme.wait_for(1, eventId=changing, state="delivered")
    until_live(live_page, row.filter(has_text="✓ delivered"))
    assert row.get_attribute("id") == place
    expect(live_page.locator("#new")).to_be_hidden()


def test_the_page_of_a_delivery_shows_the_outcome_in_place(live_page: Page, acme: Customer, webhook: str) -> None:
    acme.post(f"/v1/webhooks/{webhook}/pause")
    event_id = acme.publish(f"evt_held_{acme.id}")
    [held] = acme.wait_for(1, eventId=event_id, state="held")
    live_page.goto(f"/deliveries/{held['id']}")
    acme.post(f"/v1/webhooks/{webhook}/enable", {"held": "deliver"})
    acme.wait_for(1, eventId=event_id, state="delivered")
    until_live(live_page, live_page.locator("#state").filter(has_text="delivered"))
    expect(live_page.locator("#timeline")).to_contain_text("Attempt 1")


def test_the_switch_turns_updates_off_and_is_remembered(live_page: Page, acme: Customer, webhook: str) -> None:
    delivered(acme, "evt_first")
    live_page.goto("/deliveries")
    live_page.get_by_role("button", name="Live updates: on").click()
    switch = live_page.get_by_role("button", name="Live updates: off")
    expect(switch).to_have_attribute("aria-pressed", "false")
    live_page.reload()
    expect(switch).to_be_visible()
    asked = live_requests(live_page)
    pass_time(live_page)
    switch.click()
    assert_one_request(live_page, asked)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (
            "Object.defineProperty(document, 'hidden', { value: true, configurable: true })",
            "delete document.hidden",
        ),
        ("getSelection().selectAllChildren(document.querySelector('[data-rows] td'))", "getSelection().empty()"),
        ("document.querySelector('[data-rows] a').focus()", "document.activeElement.blur()"),
    ],
    ids=["a hidden tab", "a selection", "the focus"],
)
def test_a_list_in_use_is_not_updated(live_page: Page, acme: Customer, webhook: str, begin: str, end: str) -> None:
    delivered(acme, "evt_first")
    live_page.goto("/deliveries")
    asked = live_requests(live_page)
    live_page.evaluate(begin)
    pass_time(live_page)
    live_page.evaluate(end)
    assert_one_request(live_page, asked)


def delivered(acme: Customer, name: str) -> str:
    """The id of an event that was delivered."""
    event_id = acme.publish(f"{name}_{acme.id}")
    acme.wait_for(1, eventId=event_id, state="delivered")
    return event_id


def rows(page: Page) -> Locator:
    return page.locator("[data-rows] tbody tr")


def live_requests(page: Page) -> list[Request]:
    """The requests of live updates from now on."""
    asked: list[Request] = []
    page.on("request", lambda sent: asked.append(sent) if "x-live" in sent.headers else None)
    return asked


def pass_time(page: Page) -> None:
    """Three periods of live updates, one after the other."""
    for _ in range(3):
        page.clock.fast_forward(PERIOD_MS)


def until_live(page: Page, wanted: Locator) -> None:
    """Let periods of live updates pass until the page shows this."""

    def is_shown() -> bool:
        page.clock.fast_forward(PERIOD_MS)
        return wanted.is_visible()

    until(is_shown, 30, lambda: page.locator("main").inner_text(), every=0.1)


def assert_one_request(page: Page, asked: list[Request]) -> None:
    """Updates go on, and this one is the first: there was none before it."""
    with page.expect_request(lambda sent: "x-live" in sent.headers):
        page.clock.fast_forward(PERIOD_MS)
    assert len(asked) == 1
