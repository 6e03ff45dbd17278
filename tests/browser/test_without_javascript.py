"""Every action of a person works without JavaScript."""

import re
from datetime import UTC, datetime

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.checks import too_wide
from browser.chromium import NARROW, viewport
from browser.running import Customer, Dashboard
from e2e.system import until

pytestmark = pytest.mark.e2e


def test_a_webhook_is_created_edited_and_deleted(dashboard: Dashboard, plain_page: Page) -> None:
    page = plain_page
    page.get_by_role("link", name="Create the first webhook").click()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("Some fields need a correction")
    page.get_by_label("URL", exact=True).fill(dashboard.receiver.url("/plain"))
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Created.")).to_be_visible()
    page.get_by_role("link", name="Code that verifies the signature").click()
    expect(page.get_by_text("X-AllureConnect-Signature").first).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Description").fill("The CRM")
    page.get_by_text("Only some packages or dispatches").click()
    page.get_by_label("Packages").fill("pkg_1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="The CRM")).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("There are no webhooks yet")).to_be_visible()


def test_a_pull_webhook_has_a_form_without_a_url(plain_page: Page) -> None:
    page = plain_page
    page.goto("/webhooks/new")
    url, retention = page.get_by_label("URL", exact=True), page.get_by_label("Retention in days")
    expect(url).to_be_visible()
    expect(retention).to_be_hidden()
    page.get_by_label("Pull:").check()
    expect(url).to_be_hidden()
    expect(page.get_by_text("Credentials for the endpoint")).to_be_hidden()
    retention.fill("3")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Created. Events wait for readers from now on.")).to_be_visible()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="It waits until a reader pulls it.")).to_be_visible()


def test_a_form_says_which_events_match(acme: Customer, plain_page: Page, webhook: str) -> None:
    page, event_id = plain_page, acme.publish(f"evt_compared_{acme.id}")
    acme.wait_for(1, eventId=event_id, state="delivered")
    page.goto(f"/webhooks/{webhook}/edit")
    page.get_by_text("Only events with some values").click()
    page.get_by_label("Field").first.fill(f"metadata.{'a' * 64}")
    page.get_by_label("Value").first.fill("x")
    page.get_by_label("Description").fill("Not saved")
    page.get_by_role("button", name="Which of the last 50 events match?").click()
    expect(page.get_by_text("0 of 1 match. Nothing is saved yet.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="session.")
    expect(row).to_contain_text("a is absent")
    page.set_viewport_size(viewport(NARROW))
    assert too_wide(page) == []
    expect(page.get_by_label("Description")).to_have_value("Not saved")
    page.goto(f"/webhooks/{webhook}")
    expect(page.get_by_text("Not saved")).to_have_count(0)


def test_a_test_event_shows_its_response(plain_page: Page, webhook: str) -> None:
    plain_page.goto(f"/webhooks/{webhook}")
    plain_page.get_by_label("Type").select_option("session.scored")
    plain_page.get_by_role("button", name="Send").click()
    outcome = plain_page.get_by_role("status").filter(has_text="The endpoint responded with 200.")
    expect(outcome).to_be_visible()


def test_a_body_is_shown_before_a_test_is_sent(acme: Customer, plain_page: Page, webhook: str) -> None:
    page = plain_page
    page.goto(f"/webhooks/{webhook}")
    page.get_by_label("Type").select_option("session.scored")
    page.get_by_role("button", name="Show the body").click()
    expect(page.get_by_text("Nothing was sent yet.")).to_be_visible()
    expect(page.locator("#test pre").first).to_contain_text('"scoreScaled": 0.92')
    assert acme.deliveries() == []
    page.get_by_role("link", name="All fields").click()
    expect(page).to_have_url(re.compile("/events/types#session.scored$"))
    page.go_back()
    # The chosen type is sent.
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="The endpoint responded with 200.")).to_be_visible()
    assert [one["eventType"] for one in acme.deliveries()] == ["session.scored"]


def test_a_terminal_is_connected_and_disconnected(dashboard: Dashboard, plain_page: Page) -> None:
    page = plain_page
    page.goto("/account")
    page.get_by_role("link", name="Connect a terminal").click()
    page.get_by_role("button", name="Make the command").click()
    command = page.locator("#command").inner_text()
    [key] = re.findall("SCORM_WEBHOOKS_API_KEY=(sk_[^ ]+)", command)
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx2.get(f"{dashboard.url}/v1/webhooks", headers=headers).status_code == 200
    page.reload()
    expect(page.get_by_text("This form was sent already")).to_be_visible()
    page.goto("/account/terminal")
    expect(page.locator("body")).not_to_contain_text(key)
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("heading", name="Your terminals")).to_have_count(0)
    until(
        lambda: httpx2.get(f"{dashboard.url}/v1/webhooks", headers=headers).status_code == 401, 20, "the end of the key"
    )


def test_all_that_match_a_filter_are_sent_again(
    dashboard: Dashboard, acme: Customer, plain_page: Page, webhook: str
) -> None:
    page, event_ids = plain_page, [acme.publish(f"evt_all_{number}_{acme.id}") for number in range(2)]
    acme.wait_for(2, state="delivered")
    page.goto(f"/deliveries?webhook={webhook}&state=delivered")
    page.get_by_role("link", name="Send all that match again").click()
    confirm(page, "2 deliveries match, of 1 webhook", "Send 2 again")
    finish_job(page, "Send again: 2 deliveries")
    ids = dashboard.receiver.ids
    until(lambda: [ids("/plain").count(one) for one in event_ids] == [2, 2], 20, "both events, once more")


def test_a_secret_is_revealed_and_rotated(plain_page: Page, webhook: str) -> None:
    page = plain_page
    page.goto(f"/webhooks/{webhook}")
    page.get_by_role("button", name="Reveal").click()
    old = page.locator("#secret-text").inner_text()
    page.get_by_label("Hours that the old one stays valid").fill("1")
    page.get_by_role("button", name="Rotate").click()
    expect(page.get_by_text("both secrets are valid until")).to_be_visible()
    assert page.locator("#secret-text").inner_text() != old
    page.get_by_text("End the old secret now").click()
    page.get_by_role("button", name="End the old secret").click()
    expect(page.get_by_role("button", name="Rotate")).to_be_visible()


def test_a_reload_rotates_no_second_time(plain_page: Page, webhook: str, acme: Customer) -> None:
    page = plain_page
    page.goto(f"/webhooks/{webhook}")
    page.get_by_role("button", name="Rotate").click()
    new = page.locator("#secret-text").inner_text()
    page.reload()
    expect(page.get_by_role("heading", name="This cannot be done now")).to_be_visible()
    page.goto(f"/webhooks/{webhook}")
    page.get_by_role("button", name="Reveal").click()
    # To look again shows the same. The answer to the click must be here before: a reload amid it has no page to load.
    expect(page.locator("#secret-text")).to_have_text(new)
    page.reload()
    expect(page.locator("#secret-text")).to_have_text(new)


def test_a_reload_makes_no_second_key(plain_page: Page) -> None:
    page = plain_page
    page.goto("/account")
    page.get_by_text("Make a key").click()
    page.get_by_label("Name", exact=True).fill("The nightly export")
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_text("It is shown only now")).to_be_visible()
    page.reload()
    expect(page.get_by_text("This form was sent already")).to_be_visible()
    page.goto("/account")
    expect(page.get_by_role("row").filter(has_text="The nightly export")).to_have_count(1)


@pytest.mark.parametrize(
    ("choice", "state"),
    [
        ("Deliver them, oldest first", "delivered"),
        ("Keep them as dead letters", "dead"),
        ("Discard them", "discarded"),
    ],
)
def test_a_pause_holds_events_until_a_choice(
    acme: Customer, plain_page: Page, webhook: str, choice: str, state: str
) -> None:
    page = plain_page
    page.goto(f"/webhooks/{webhook}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", name="Paused", exact=True)).to_be_visible()
    # Every page says so.
    page.goto("/audit")
    expect(page.get_by_role("status").filter(has_text="is paused since")).to_contain_text("by a person")
    event_id = acme.publish(f"evt_{state}_{acme.id}")
    acme.wait_for(1, eventId=event_id, state="held")
    page.goto(f"/webhooks/{webhook}")
    expect(page.get_by_text("1 event is held")).to_be_visible()
    page.get_by_label(choice).check()
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    acme.wait_for(1, eventId=event_id, state=state)


def test_dead_letters_are_retried_and_discarded(acme: Customer, plain_page: Page, webhook: str) -> None:
    page, kept = plain_page, keep_dead_letters(acme, webhook, 4)
    page.goto("/dead-letters")
    page.get_by_role("row").filter(has_text=kept[0]).get_by_role("link").click()
    page.get_by_role("button", name="Retry").click()
    acme.wait_for(1, eventId=kept[0], state="delivered")
    page.goto("/dead-letters")
    page.get_by_label(kept[1]).check()
    page.get_by_role("button", name="Retry").click()
    confirm(page, "1 dead letter matches", "Retry 1")
    finish_job(page, "Retry: 1 dead letter")
    page.get_by_role("link", name="Dead letters").first.click()
    page.get_by_label(kept[2]).check()
    page.get_by_role("button", name="Discard").click()
    confirm(page, "1 dead letter matches", "Discard 1")
    finish_job(page, "Discard: 1 dead letter")
    page.goto("/dead-letters?reason=kept")
    page.get_by_label("all that match the filter").check()
    page.get_by_role("button", name="Discard").click()
    confirm(page, "1 dead letter matches", "Discard 1")
    finish_job(page, "Discard: 1 dead letter")
    assert [len(acme.wait_for(1, eventId=one)) for one in kept] == [1, 1, 1, 1]
    assert acme.deliveries(state="dead") == []


def test_a_delivered_event_is_sent_again(dashboard: Dashboard, acme: Customer, plain_page: Page, webhook: str) -> None:
    event_id = acme.publish(f"evt_again_{acme.id}")
    [delivered] = acme.wait_for(1, eventId=event_id, state="delivered")
    page = plain_page
    page.goto(f"/deliveries/{delivered['id']}")
    page.get_by_text("Send again…").click()
    expect(page.get_by_text("with the same webhook-id")).to_be_visible()
    page.get_by_role("button", name="Send again").click()
    expect(page).to_have_url(re.compile("queued=1"))
    until(lambda: dashboard.receiver.ids("/plain").count(event_id) == 2, 20, "the event, once more")
    until(lambda: reloaded(page, "as generation 2.").is_visible(), 20, "the second generation", every=0.2)


def test_a_period_is_counted_sent_again_and_cancelled(acme: Customer, plain_page: Page, webhook: str) -> None:
    page = plain_page
    for number in range(2):
        acme.publish(f"evt_{number}_{acme.id}")
    acme.wait_for(2, state="delivered")
    page.goto(f"/webhooks/{webhook}")
    page.get_by_role("link", name="send a period again").click()
    page.get_by_label("Since").fill(f"{datetime.now(UTC):%Y-%m-%d} 00:00")
    page.get_by_label("delivered").check()
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_text("2 deliveries match")).to_be_visible()
    page.get_by_role("button", name="Send them again").click()
    expect(page.get_by_role("heading", name="Send again: 2 deliveries")).to_be_visible()
    # A job as short as this may be done before its page is there.
    if (cancel := page.get_by_role("button", name="Cancel")).count():
        cancel.click()
    expect(
        page.get_by_role("status").filter(has_text=re.compile(r"Cancelled: what it has done|Finished\."))
    ).to_be_visible()


def test_any_id_finds_its_deliveries(acme: Customer, plain_page: Page, webhook: str) -> None:
    page = plain_page
    acme.publish(f"evt_found_{acme.id}", learnerId="learner-found")
    acme.publish(f"evt_other_{acme.id}", learnerId="learner-other")
    # Each is found as soon as its payload is recorded.
    acme.wait_for(1, learnerId="learner-found")
    acme.wait_for(1, learnerId="learner-other")
    page.goto("/deliveries")
    page.get_by_label("Find an id").fill("learner-found")
    page.get_by_role("button", name="Find").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("evt_found")
    page.get_by_label("Find an id").fill("learner-nobody")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "No delivery has this id: no event, session, learner, package or dispatch"
    )


def test_facets_narrow_a_list_and_chips_widen_it(acme: Customer, plain_page: Page, webhook: str) -> None:
    page = plain_page
    acme.publish(f"evt_completed_{acme.id}")
    acme.publish(f"evt_scored_{acme.id}", "session.scored")
    acme.wait_for(2, state="delivered")
    page.goto("/deliveries")
    page.get_by_text("Narrow the list").click()
    page.get_by_role("link", name="session.scored 1").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("link", name="type: session.scored").click()
    expect(rows(page)).to_have_count(2)


def test_keys_and_users_are_added_and_removed(plain_page: Page) -> None:
    page = plain_page
    page.get_by_role("link", name="Account").click()
    page.get_by_text("Make a key").click()
    page.get_by_label("Name", exact=True).fill("The nightly export")
    page.get_by_role("button", name="Create the key").click()
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


def test_a_learner_is_erased(acme: Customer, plain_page: Page, webhook: str) -> None:
    page = plain_page
    acme.publish("evt_of_dora", learnerId="dora@uni.example")
    [row] = acme.wait_for(1, eventId="evt_of_dora", state="delivered")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("link", name="Erase a learner").click()
    page.get_by_label("Learner", exact=True).fill("dora@uni.example")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    page.get_by_role("button", name="Erase forever").click()
    expect(page.get_by_role("heading", name="A learner is erased")).to_be_visible()
    page.goto(f"/deliveries/{row['id']}")
    expect(page.get_by_text("Its learner was erased.").first).to_be_visible()


def test_times_are_shown_in_a_chosen_zone(plain_page: Page) -> None:
    plain_page.get_by_label("Times in").fill("Asia/Tokyo")
    plain_page.get_by_role("button", name="Change").click()
    expect(plain_page.get_by_role("button", name="UTC")).to_be_visible()
    plain_page.goto("/audit")
    expect(plain_page.get_by_text("JST").first).to_be_visible()
    plain_page.get_by_role("button", name="UTC").click()
    expect(plain_page.get_by_text("UTC").first).to_be_visible()
    expect(plain_page.get_by_text("JST")).to_have_count(0)


def test_colours_are_those_of_the_choice(plain_page: Page) -> None:
    html = plain_page.locator("html")
    plain_page.emulate_media(color_scheme="light")
    for name, scheme in (("dark", "dark"), ("light", "light")):
        plain_page.get_by_role("button", name=name, exact=True).click()
        expect(html).to_have_css("color-scheme", scheme)
    plain_page.get_by_role("button", name="system", exact=True).click()
    expect(html).to_have_css("color-scheme", "light dark")


def test_a_person_signs_out(plain_page: Page) -> None:
    plain_page.get_by_role("button", name="Sign out").click()
    expect(plain_page.get_by_role("button", name="Send me a code")).to_be_visible()
    plain_page.go_back()
    expect(plain_page.get_by_role("button", name="Send me a code")).to_be_visible()


def keep_dead_letters(acme: Customer, webhook: str, count: int) -> list[str]:
    """Dead letters of a webhook that works; their event ids."""
    acme.post(f"/v1/webhooks/{webhook}/pause")
    event_ids = [acme.publish(f"evt_{number}_{acme.id}") for number in range(count)]
    acme.wait_for(count, state="held")
    acme.post(f"/v1/webhooks/{webhook}/enable", {"held": "keep"})
    acme.wait_for(count, state="dead")
    return event_ids


def confirm(page: Page, words: str, button: str) -> None:
    """Look at the preview, and go on."""
    expect(page.get_by_text(words)).to_be_visible()
    page.get_by_role("button", name=button).click()


def rows(page: Page) -> Locator:
    """The rows of the list of deliveries."""
    return page.locator("[data-rows] tbody tr")


def reloaded(page: Page, words: str) -> Locator:
    page.reload()
    return page.get_by_text(words)


def finish_job(page: Page, heading: str) -> None:
    """Reload the job's page until the job has finished."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    until(lambda: reloaded(page, "Finished.").is_visible(), 30, "the job", every=0.2)
