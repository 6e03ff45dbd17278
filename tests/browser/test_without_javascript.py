"""Every action works without JavaScript."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.chromium import open_context, sign_in
from browser.running import Customer, Dashboard
from e2e.system import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def acme(dashboard: Dashboard) -> Customer:
    """A new account, with an endpoint at /plain."""
    return dashboard.customer("Acme Learning")


@pytest.fixture
def page(chromium: Browser, dashboard: Dashboard, acme: Customer) -> Iterator[Page]:
    """An owner who is signed in, in a browser that runs no script."""
    link = dashboard.sign_in_link(acme, dashboard.user(acme, "ada@acme.example"))
    with open_context(chromium, dashboard.url, java_script_enabled=False) as (context, problems):
        yield sign_in(context, link)
        assert problems == []


def test_a_webhook_is_created_edited_and_deleted(dashboard: Dashboard, page: Page) -> None:
    page.get_by_role("link", name="Create the first webhook").click()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("Some fields need a correction")
    page.get_by_label("URL", exact=True).fill(dashboard.receiver.url("/plain"))
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Created.")).to_be_visible()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Description").fill("The CRM")
    page.get_by_text("Only some packages or dispatches").click()
    page.get_by_label("Packages").fill("pkg_1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="The CRM")).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("There are no webhooks yet")).to_be_visible()


def test_a_test_event_shows_its_response(dashboard: Dashboard, acme: Customer, page: Page) -> None:
    page.goto(f"/webhooks/{acme.webhook(dashboard.receiver.url('/plain'))}")
    page.get_by_label("Type").select_option("session.scored")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="The endpoint responded with 200.")).to_be_visible()


def test_a_secret_is_revealed_and_rotated(dashboard: Dashboard, acme: Customer, page: Page) -> None:
    page.goto(f"/webhooks/{acme.webhook(dashboard.receiver.url('/plain'))}")
    page.get_by_role("button", name="Reveal").click()
    old = page.get_by_text("whsec_").inner_text()
    page.get_by_label("Rotate").fill("1")
    page.get_by_role("button", name="Rotate").click()
    expect(page.get_by_text("both secrets are valid until")).to_be_visible()
    assert page.get_by_text("whsec_").inner_text() != old
    page.get_by_role("button", name="End the old secret now").click()
    expect(page.get_by_role("button", name="Rotate")).to_be_visible()


@pytest.mark.parametrize(
    ("choice", "state"),
    [
        ("Deliver them, oldest first", "delivered"),
        ("Keep them as dead letters", "dead"),
        ("Discard them", "discarded"),
    ],
)
def test_a_pause_holds_events_until_a_choice(
    dashboard: Dashboard, acme: Customer, page: Page, choice: str, state: str
) -> None:
    webhook_id = acme.webhook(dashboard.receiver.url("/plain"))
    page.goto(f"/webhooks/{webhook_id}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", name="Enable")).to_be_visible()
    event_id = acme.publish(f"evt_{state}_{acme.id}")
    acme.wait_for(1, eventId=event_id, state="held")
    page.reload()
    expect(page.get_by_text("1 held event", exact=True)).to_be_visible()
    page.get_by_label(choice).check()
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    acme.wait_for(1, eventId=event_id, state=state)


def test_deliveries_are_retried_and_discarded(dashboard: Dashboard, acme: Customer, page: Page) -> None:
    kept = keep_dead_letters(dashboard, acme, 4)
    page.goto("/dead-letters")
    page.get_by_role("row").filter(has_text=kept[0]).get_by_role("link").click()
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_text("Queued.")).to_be_visible()
    acme.wait_for(1, eventId=kept[0], state="delivered")
    page.get_by_role("link", name="Dead letters").click()
    page.get_by_label(kept[1]).check()
    page.get_by_role("button", name="Retry").click()
    finish_job(page, "Retry: 1 dead letter")
    page.get_by_role("link", name="Dead letters").first.click()
    page.get_by_label(kept[2]).check()
    page.get_by_role("button", name="Discard").click()
    finish_job(page, "Discard: 1 dead letter")
    page.get_by_role("link", name="Dead letters").first.click()
    page.get_by_label("all that match the filter").check()
    page.get_by_role("button", name="Discard").click()
    finish_job(page, "Discard: 1 dead letter")
    assert [len(acme.wait_for(1, eventId=one)) for one in kept] == [1, 1, 1, 1]
    assert acme.deliveries(state="dead") == []


def test_keys_and_users_are_added_and_removed(page: Page) -> None:
    page.get_by_role("link", name="Account").click()
    page.get_by_label("Name of a new key").fill("The nightly export")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("It is shown only now")).to_be_visible()
    page.get_by_role("row").filter(has_text="The nightly export").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row").filter(has_text="The nightly export")).to_contain_text("revoked")
    page.get_by_label("E-mail").fill("ben@acme.example")
    page.get_by_role("combobox", name="Role", exact=True).select_option("viewer")
    page.get_by_role("button", name="Add").click()
    ben = page.get_by_role("row").filter(has_text="ben@acme.example")
    ben.get_by_label("Role of ben@acme.example").select_option("member")
    ben.get_by_role("button", name="Change").click()
    expect(ben.get_by_label("Role of ben@acme.example")).to_have_value("member")
    ben.get_by_role("button", name="Remove").click()
    expect(ben).to_have_count(0)


def test_times_are_shown_in_a_chosen_zone(page: Page) -> None:
    page.get_by_label("Times in").fill("Asia/Tokyo")
    page.get_by_role("button", name="Change").click()
    page.goto("/audit")
    expect(page.get_by_text("JST").first).to_be_visible()


def test_a_person_signs_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Send me a code")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("button", name="Send me a code")).to_be_visible()


def keep_dead_letters(dashboard: Dashboard, acme: Customer, count: int) -> list[str]:
    """Dead letters of a webhook that works; their event ids."""
    webhook_id = acme.webhook(dashboard.receiver.url("/plain"))
    acme.post(f"/v1/webhooks/{webhook_id}/pause")
    event_ids = [acme.publish(f"evt_{number}_{acme.id}") for number in range(count)]
    acme.wait_for(count, state="held")
    acme.post(f"/v1/webhooks/{webhook_id}/enable", {"held": "keep"})
    acme.wait_for(count, state="dead")
    return event_ids


def finish_job(page: Page, heading: str) -> None:
    """Reload the job's page until the job has finished."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()

    def is_finished() -> bool:
        page.reload()
        return page.get_by_text("Finished.").is_visible()

    until(is_finished, 30, "the job", every=0.2)
