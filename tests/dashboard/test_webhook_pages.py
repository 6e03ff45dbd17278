"""An integrator creates, watches and repairs a webhook on pages."""

import re
from datetime import timedelta
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, signed_in

from builders import attempt, dead_letter, delivery
from rest.api_fixture import URL, ApiFixture
from streams.adapters.sql.tables.deliveries import webhooks
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Unavailable
from streams.features.shared.idempotency import SqlIdempotencyStore

pytestmark = pytest.mark.slow

ODD_TEXT = "<script>alert(1)</script>\"'\u202e\x07{{7*7}}"


async def test_a_new_account_sees_what_to_do(browser: FakeBrowser) -> None:
    page = await browser.open("/")
    assert "No webhooks yet" in page.text
    assert 'href="/webhooks/new"' in page.html
    assert 'href="/account/terminal"' in page.html
    assert 'href="/account/terminal"' in (await browser.open("/webhooks")).html


async def test_a_webhook_is_created_edited_and_deleted(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send(
        "/webhooks/new",
        url=URL,
        description="The CRM",
        events=["session.completed", "session.scored"],
        packages="pkg_1\n pkg_2 \n",
        headers="X-Key: k-1",
        max_concurrency="8",
    )
    assert page.path.endswith("?new=1"), page.text
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    known = await api.acme.get(f"/v1/webhooks/{known['id']}")
    assert (known["events"], known["packages"]) == (["session.completed", "session.scored"], ["pkg_1", "pkg_2"])
    assert (known["hasHeaders"], known["maxConcurrency"]) == (True, 8)
    form = await browser.open(f"/webhooks/{known['id']}/edit")
    assert "k-1" not in form.html
    [version] = re.findall(r'name="version" value="(\d+)"', form.html)
    await browser.send(f"/webhooks/{known['id']}/edit", url=URL, description="CRM", version=version)
    [edited] = (await api.acme.get("/v1/webhooks"))["data"]
    assert (edited["description"], edited["events"], edited["hasHeaders"]) == ("CRM", ["*"], True)
    late = await browser.send(f"/webhooks/{known['id']}/edit", url=URL, description="late", version=version)
    assert (late.status, "changed since you opened the page" in late.text) == (412, True)
    assert "cannot be undone" in (await browser.open(f"/webhooks/{known['id']}/delete")).text
    page = await browser.send(f"/webhooks/{known['id']}/delete")
    assert page.path == "/webhooks?deleted=1"
    assert (await api.acme.get("/v1/webhooks"))["data"] == []


async def test_the_rules_of_delivery_are_set_shown_and_taken_back(api: ApiFixture, browser: FakeBrowser) -> None:
    rules: dict[str, Any] = {
        "timeout_seconds": "5",
        "retries": "30s, 2m 24h",
        "pause_failures": "10",
        "pause_minutes": "60",
        "on_gone": "delete",
        "resume": "probe",
        "rate_per_second": "2.5",
        "fields": "sessionId\nmetadata.cost center",
        "paused": "1",
    }
    created = await browser.send("/webhooks/new", url=URL, **rules)
    assert "Events are held until you enable it." in created.text
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    assert (known["timeoutSeconds"], known["retries"], known["onGone"]) == (5, ["30s", "2m", "24h"], "delete")
    assert (known["pauseAfter"], known["ratePerSecond"]) == ({"failures": 10, "minutes": 60}, 2.5)
    assert known["status"] == "paused"
    page = await browser.open(f"/webhooks/{known['id']}")
    for sentence in (
        "Fields of data sessionId, metadata.cost center",
        "Timeout 5 seconds",
        "Rate 2.5 requests a second, 2 at once after a quiet time",
        "Retries after 30s, 2m, 24h",
        "Paused after 10 failures in a row over 60 minutes or more",
        "After 410 Gone deleted",
        "Resumed by a held event that succeeds",
    ):
        assert sentence in " ".join(page.text.split())
    form = await browser.open(f"/webhooks/{known['id']}/edit")
    [version] = re.findall(r'name="version" value="(\d+)"', form.html)
    assert 'value="30s, 2m, 24h"' in form.html
    await browser.send(f"/webhooks/{known['id']}/edit", url=URL, version=version, no_retries="1")
    [changed] = (await api.acme.get("/v1/webhooks"))["data"]
    assert (changed["retries"], changed["onGone"], "timeoutSeconds" in changed) == ([], "pause", False)


async def test_credentials_are_set_kept_and_removed(api: ApiFixture, browser: FakeBrowser) -> None:
    fields = {"auth_type": "oauth2", "token_url": "https://auth.example.com/token", "client_id": "crm", "scope": "a b"}
    refused = await browser.send("/webhooks/new", None, url=URL, **fields)
    assert "Client secret is required" in refused.text
    # A secret that was typed beside a mistake is not lost in silence.
    lost = await browser.send("/webhooks/new", None, url="nonsense", client_secret="canary", **fields)
    assert "Type the password or the client secret again" in lost.text
    assert "canary" not in lost.html
    again = await browser.send("/webhooks/new", None, url=URL, secret_typed="1", **fields)
    assert "must be typed again" in again.text
    await browser.send("/webhooks/new", None, url=URL, client_secret="canary", **fields)
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    assert known["auth"]["scope"] == "a b"
    page = await browser.open(f"/webhooks/{known['id']}")
    assert "OAuth 2.0: a token of auth.example.com for crm" in page.text
    path = f"/webhooks/{known['id']}/edit"
    form = await browser.open(path)
    assert "canary" not in form.html
    assert 'value="https://auth.example.com/token"' in form.html
    [version] = re.findall(r'name="version" value="(\d+)"', form.html)
    await browser.send(path, None, url=URL, version=version, **{**fields, "scope": "c"})
    [kept] = (await api.acme.get("/v1/webhooks"))["data"]
    assert kept["auth"]["scope"] == "c"
    [version] = re.findall(r'name="version" value="(\d+)"', (await browser.open(path)).html)
    await browser.send(path, None, url=URL, version=version)
    [removed] = (await api.acme.get("/v1/webhooks"))["data"]
    assert "auth" not in removed


async def test_no_retries_beside_waits_is_not_ignored(browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", url=URL, retries="30s", no_retries="1")
    assert "choose one of both" in page.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("timeout_seconds", "31", "Timeout in seconds must be a whole number from 1 to 30"),
        ("rate_per_second", "fast", "Events a second, at most must be a number, such as 5 or 0.5"),
        ("rate_per_second", "nan", "must be a number from 0.1 to 1000"),
        ("fields", "sesionId", "'sesionId' is not a field of any type's `data`"),
        ("rate_burst", "5", "eeds ratePerSecond"),
        ("retries", "45s", "'45s' is not a wait of this system"),
        ("pause_failures", "0", "must be a whole number from 1 to 100"),
        ("resume", "soon", "The choice after a pause must be one of: manual, probe"),
        ("on_gone", "ignore", "must be one of: pause, delete"),
    ],
)
async def test_a_wrong_rule_is_named_beside_its_field(browser: FakeBrowser, name: str, text: str, message: str) -> None:
    fields: dict[str, Any] = {"url": URL, name: text}
    page = await browser.send("/webhooks/new", **fields)
    assert page.status == 422
    assert message in page.text


async def test_a_corrected_form_overwrites_no_other_change(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}/edit"
    [version] = re.findall(r'name="version" value="(\d+)"', (await browser.open(path)).html)
    await browser.send(path, url=f"{URL}/by-another", version=version)
    wrong = await browser.send(path, url=URL, headers="nonsense", version=version)
    [kept] = re.findall(r'name="version" value="(\d+)"', wrong.html)
    late = await browser.send(path, url=URL, version=kept)
    assert (wrong.status, kept, late.status) == (422, version, 412)


async def test_a_form_keeps_what_was_typed_and_shows_its_errors(browser: FakeBrowser) -> None:
    page = await browser.send(
        "/webhooks/new", url="http://crm.example.com", description="Mine", headers="nonsense", max_concurrency="9"
    )
    assert page.status == 422
    assert "'nonsense' is not a header" in page.text
    assert 'value="Mine"' in page.html
    page = await browser.send("/webhooks/new", url="http://crm.example.com", max_concurrency="nine")
    assert "must be a whole number" in page.text
    page = await browser.send("/webhooks/new", url="http://crm.example.com", events="nonsense")
    assert "URL must start with https://" in page.text


async def test_the_secret_is_shown_on_demand_and_rotated_in_two_steps(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    path = f"/webhooks/{made['id']}"
    page = await browser.open(path)
    assert made["secret"] not in page.html
    page = await browser.send(f"{path}/secret")
    assert made["secret"] in page.html
    assert "content-encoding" not in page.response.headers
    page = await browser.send(f"{path}/secret/rotate", hours="24")
    assert "both secrets are valid until 11 Apr 2026, 12:00:00 UTC" in page.text
    page = await browser.send(f"{path}/secret/finish-rotation")
    assert "both secrets" not in page.text


async def test_a_paused_webhook_asks_what_to_do_with_held_events(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    await browser.send(f"/webhooks/{made['id']}/pause")
    for path in ("/", "/webhooks", f"/webhooks/{made['id']}"):
        assert "aused since 12:00 , by a person." in (await browser.open(path)).text
    assert (await browser.send(f"/webhooks/{made['id']}/enable", held="nonsense")).status == 422
    await browser.send(f"/webhooks/{made['id']}/enable", held="discard")
    assert "paused" not in (await browser.open("/")).text


async def test_a_failing_webhook_says_since_when_and_why(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    message = "The endpoint's server refused the connection (port 443)."
    await api.record(attempt(**mine, outcome=OutcomeKind.REFUSED, message=message, status=None))
    page = await browser.open("/")
    assert "failing, 1 of 5 failures in a row since 12:00" in page.text
    assert message in page.text


async def test_the_page_of_a_newer_release_s_webhook_says_so(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    async with api.database.transaction() as connection:
        await connection.execute(webhooks.update().values(options='{"colour": "blue"}'))
    page = await browser.open(f"/webhooks/{made['id']}")
    assert page.status == 409
    assert (
        "A newer release wrote this This release cannot read it: ask again when the upgrade is complete." in page.text
    )


async def test_a_new_url_is_not_healthy_by_the_old_one(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await api.record(delivery(**mine), attempt(**mine))
    assert "healthy, 1 delivered" in (await browser.open("/")).text
    await browser.send(f"/webhooks/{made['id']}/edit", url=f"{URL}/v2", description="CRM")
    for path in ("/", "/webhooks", f"/webhooks/{made['id']}"):
        assert "ew URL since 12:00 , nothing delivered yet." in (await browser.open(path)).text
    later = api.clock.now() + timedelta(minutes=5)
    await api.record(attempt(**mine, event_id="evt_2", started_at=later, ended_at=later))
    assert "healthy, 2 delivered" in (await browser.open("/")).text


async def test_a_delivery_shows_its_payload_and_every_attempt(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    known = delivery(**mine)
    await api.record(known, attempt(**mine, response_body=ODD_TEXT.encode()))
    page = await browser.open(f"/deliveries/{known.id}")
    assert page.status == 200
    assert "<script>alert" not in page.html
    assert not {"\u202e", "\x07"} & set(page.html)
    assert r"\u202e\x07" in page.text
    raw = await browser.open(f"/deliveries/{known.id}/payload")
    assert raw.response.content == known.body
    assert raw.response.headers["content-disposition"].startswith("attachment")
    other = await signed_in(api, account="globex")
    for path in (f"/deliveries/{known.id}", f"/deliveries/{known.id}/payload", f"/webhooks/{made['id']}"):
        assert (await other.open(path)).status == 404
    await other.close()


async def test_a_payload_is_shown_in_its_order_and_letters(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    body = b'{"type":"session.launched","data":{"learnerId":"O\'Brien \xc3\xa9"},"createdAt":"2026-04-10T14:32:00Z"}'
    known = delivery(account_id=api.acme.account_id, webhook_id=made["id"], body=body)
    await api.record(known)
    page = await browser.open(f"/deliveries/{known.id}")
    assert page.text.count("O'Brien \u00e9") == 2
    assert page.text.index('"type": "session.launched"') < page.text.index('"createdAt": "2026')


async def test_dead_letters_are_retried_by_a_job(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    letter = dead_letter(delivery=delivery(**mine))
    await api.record(letter)
    page = await browser.open("/dead-letters")
    assert letter.delivery.id in page.html
    assert (await browser.send("/dead-letters", act="retry")).status == 422
    page = await browser.send("/dead-letters", act="retry", id=letter.delivery.id)
    assert page.path.startswith("/jobs/")
    assert "Retry: 1 dead letter" in page.text


@pytest.mark.parametrize(
    "path", ["/deliveries?state=nonsense", "/deliveries?type=x", "/deliveries?since=now", "/deliveries?after=x"]
)
async def test_a_wrong_filter_is_named(browser: FakeBrowser, path: str) -> None:
    page = await browser.open(path)
    assert page.status == 422
    assert "wrong with what you entered" in page.text


async def test_keys_and_people_are_managed_by_owners(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send("/account/keys", name="export", scopes=["webhooks:read"], days="30")
    [key] = re.findall(r'id="key"[^>]*>([^<]+)', page.html)
    assert (await api.anonymous.request("GET", "/v1/webhooks", headers={"Authorization": f"Bearer {key}"})).is_success
    assert key not in (await browser.open("/account")).html
    assert "<option selected>viewer</option>" in page.html
    page = await browser.send("/account/users", email="bob@acme.example", role="viewer")
    assert "bob@acme.example" in page.text
    assert "Add a user" not in page.text
    assert (await browser.send("/account/users", email="bob@acme.example", role="root")).status == 422
    assert "user.added" in (await browser.open("/audit")).text


async def test_what_others_wrote_appears_as_text(api: ApiFixture, browser: FakeBrowser) -> None:
    await api.acme.webhook(description=ODD_TEXT, url=f"{URL}?q=<script>")
    await api.operator.patch(f"/v1/accounts/{api.acme.account_id}", {"name": ODD_TEXT})
    for path in ("/", "/webhooks", "/account", "/audit", "/deliveries", "/dead-letters"):
        page = await browser.open(path)
        assert page.status == 200, path
        assert "<script>alert" not in page.html
        assert "\u202e" not in page.html
        assert "{{7*7}}" in page.html or path in ("/deliveries", "/dead-letters", "/audit") or "49" not in page.text


async def test_a_form_that_is_sent_twice_acts_once(api: ApiFixture, browser: FakeBrowser) -> None:
    form = (await browser.open("/webhooks/new")).html
    [nonce] = re.findall(r'name="once" value="([^"]+)"', form)
    wrong = await browser.send("/webhooks/new", url="http://nonsense", once=nonce)
    assert wrong.status == 422
    first = await browser.send("/webhooks/new", url=URL, once=nonce)
    again = await browser.send("/webhooks/new", url=URL, once=nonce)
    assert again.path == first.path
    assert len((await api.acme.get("/v1/webhooks"))["data"]) == 1
    other = await browser.send("/webhooks/new", url=URL, once="another")
    assert other.path != first.path


async def test_a_form_that_died_before_its_end_may_be_sent_again(api: ApiFixture, browser: FakeBrowser) -> None:
    [session] = await api.operator.get(f"/v1/accounts/{api.acme.account_id}/sessions")
    responses = api.app.state.services.responses
    await responses.begin(f"page:{session['id']}", "n1", "/webhooks/new", api.clock.now())
    assert (await browser.send("/webhooks/new", url=URL, once="n1")).status == 409
    api.clock.advance(61)
    assert (await browser.send("/webhooks/new", url=URL, once="n1")).path.endswith("?new=1")


async def test_a_key_is_not_created_twice_by_one_form(browser: FakeBrowser) -> None:
    fields: dict[str, Any] = {"name": "export", "scopes": "webhooks:read", "once": "n1"}
    assert (await browser.send("/account/keys", **fields)).status == 200
    again = await browser.send("/account/keys", **fields)
    assert (again.status, "was sent already" in again.text) == (409, True)
    assert (await browser.open("/account")).text.count("export sk_") == 1


async def test_a_new_key_is_shown_although_an_outage_follows(
    browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(SqlIdempotencyStore, "finish", away)
    page = await browser.send("/account/keys", name="export", scopes="webhooks:read", once="n1")
    assert (page.status, "sk_" in page.text) == (200, True)


async def test_checked_types_beside_all_types_are_not_ignored(browser: FakeBrowser, api: ApiFixture) -> None:
    page = await browser.send("/webhooks/new", url=URL, which="all", events="session.completed")
    assert page.status == 422
    assert "You chose all types, and checked some" in page.text
    # What was checked is still there.
    assert re.search(r'value="session.completed" checked', page.html)
    page = await browser.send("/webhooks/new", url=URL, which="some", events="session.completed")
    assert page.status == 200
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    assert known["events"] == ["session.completed"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"which": "all"}, ["*"]),
        ({}, ["*"]),
        ({"events": "session.ended"}, ["session.ended"]),
        ({"which": "all", "also": "session.ended"}, ["*", "session.ended"]),
    ],
)
async def test_the_choice_of_types_is_saved(
    browser: FakeBrowser, api: ApiFixture, fields: dict[str, Any], expected: list[str]
) -> None:
    assert (await browser.send("/webhooks/new", url=URL, **fields)).status == 200
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    assert known["events"] == expected
    page = await browser.open(f"/webhooks/{known['id']}/edit")
    kept: dict[str, Any] = {
        name: re.findall(rf'name="{name}" value="([^"]+)" checked', page.html) for name in ("which", "events", "also")
    }
    edited = await browser.send(f"/webhooks/{known['id']}/edit", url=URL, version=known["version"], **kept)
    assert edited.status == 200
    assert (await api.acme.get(f"/v1/webhooks/{known['id']}"))["events"] == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"which": "some"}, "Choose at least one type, or all types."),
        ({"which": "some", "events": "session.scored", "also": "session.ended"}, "check session.ended among them"),
    ],
)
async def test_a_choice_of_types_that_contradicts_itself_is_named(
    browser: FakeBrowser, api: ApiFixture, fields: dict[str, Any], message: str
) -> None:
    page = await browser.send("/webhooks/new", url=URL, **fields)
    assert page.status == 422
    assert message in page.text


async def test_headers_beside_send_none_are_not_ignored(browser: FakeBrowser, api: ApiFixture) -> None:
    known = await api.acme.webhook(headers={"X-Key": "1"})
    page = await browser.send(
        f"/webhooks/{known['id']}/edit", url=URL, version=known["version"], headers="X-Key: 2", no_headers="1"
    )
    assert page.status == 422
    assert "“Send none” is checked: choose one of both" in page.text


async def test_a_failure_is_described_once_on_a_page(api: ApiFixture, browser: FakeBrowser) -> None:
    known = await api.acme.webhook()
    for number in range(1, 4):
        failed = attempt(
            webhook_id=known["id"],
            account_id=api.acme.account_id,
            event_id=f"evt_{number}",
            outcome=OutcomeKind.SERVER_ERROR,
            status=500,
            message="The endpoint responded with 500.",
            started_at=api.clock.now() + timedelta(minutes=number),
            ended_at=api.clock.now() + timedelta(minutes=number, seconds=1),
        )
        await api.record(failed)
    page = await browser.open(f"/webhooks/{known['id']}")
    assert "3 of 5 failures in a row" in page.text
    [panel] = re.findall(r'<ul class="log">(.*?)</ul>', page.html, re.DOTALL)
    assert (panel.count("<li>"), panel.count("The endpoint responded with 500.")) == (3, 1)


async def test_pauses_are_said_once_on_a_page(api: ApiFixture, browser: FakeBrowser) -> None:
    known = await api.acme.webhook(description="The CRM")
    await api.acme.post(f"/v1/webhooks/{known['id']}/pause")
    for path, is_said_by_banner in (("/", False), (f"/webhooks/{known['id']}", False), ("/deliveries", True)):
        page = await browser.open(path)
        assert ('class="banner"' in page.html) is is_said_by_banner, path
    await api.acme.webhook(description="The warehouse")
    [other] = [one for one in (await api.acme.get("/v1/webhooks"))["data"] if one["description"] == "The warehouse"]
    assert 'class="banner"' in (await browser.open(f"/webhooks/{other['id']}")).html


async def test_the_list_of_deliveries_is_one_step_away(browser: FakeBrowser) -> None:
    page = await browser.open("/deliveries")
    links = re.findall(r'<a [^>]*href="([^"]+)"', page.html)
    assert links[:2] == ["#main", "#list"]
