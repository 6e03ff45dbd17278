"""An integrator registers, changes, pauses and deletes a webhook."""

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from builders import attempt
from rest.api_fixture import URL, ApiFixture, FakePublisher, errors_of, open_api
from streams.adapters.sql.tables.deliveries import pauses, webhooks
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Unavailable
from streams.core.times import format_time, parse_time

pytestmark = pytest.mark.slow

SECRET_PREFIX = "whsec_"


OAUTH2 = {
    "type": "oauth2",
    "tokenUrl": "https://auth.example.com/token",
    "clientId": "crm",
    "clientSecret": "canary-of-the-client",
}


async def test_a_webhook_needs_only_a_url(api: ApiFixture) -> None:
    response = await api.acme.request("POST", "/v1/webhooks", {"url": URL})
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/v1/webhooks/{made['id']}"
    assert made.pop("secret").startswith(SECRET_PREFIX)
    assert made.pop("propagated") is True
    assert made == {
        "id": made["id"],
        "accountId": api.acme.account_id,
        "url": URL,
        "delivery": "push",
        "events": ["*"],
        "description": "",
        "packages": [],
        "dispatches": [],
        "hasHeaders": False,
        "hasFallbackHeaders": False,
        "maxConcurrency": 32,
        "pauseAfter": {"failures": 5, "minutes": 0},
        "onGone": "pause",
        "resume": "manual",
        "status": "active",
        "createdAt": "2026-04-10T12:00:00Z",
        "version": made["version"],
    }
    assert await api.acme.get(f"/v1/webhooks/{made['id']}") == made
    del made["packages"], made["dispatches"]
    assert (await api.acme.get("/v1/webhooks"))["data"] == [{**made, "packagesCount": 0, "dispatchesCount": 0}]


async def test_a_host_that_does_not_resolve_is_a_warning(api: ApiFixture) -> None:
    warning = 'The host "crm.unknown.example.com" does not resolve. Events fail until it does: check the URL.'
    made = await api.acme.webhook(url="https://crm.unknown.example.com/hooks", fallbackUrl=URL)
    assert made["warnings"] == [warning]
    path = f"/v1/webhooks/{made['id']}"
    assert "warnings" not in await api.acme.get(path)
    assert "warnings" not in await api.acme.patch(path, {"url": f"{URL}/2"})
    assert (await api.acme.patch(path, {"fallbackUrl": "https://crm.unknown.example.com/"}))["warnings"] == [warning]
    assert "warnings" not in await api.acme.patch(path, {"description": "CRM"})


async def test_lists_and_states_count_the_ids_of_a_scope(api: ApiFixture) -> None:
    scope = {"packages": [f"pkg_{number}" for number in range(1000)], "dispatches": ["dsp_1", "dsp_2"]}
    made = await api.acme.webhook(**scope)
    path = f"/v1/webhooks/{made['id']}"
    changed = await api.acme.patch(path, {"description": "The CRM"})
    for shown in (made, changed, await api.acme.get(path)):
        assert {name: shown[name] for name in scope} == {name: sorted(ids) for name, ids in scope.items()}
    [listed] = (await api.acme.get("/v1/webhooks"))["data"]
    acts = ("pause", "enable", "secret/rotate", "secret/finish-rotation")
    for shown in (listed, *[await api.acme.post(f"{path}/{act}") for act in acts]):
        assert (shown["packagesCount"], shown["dispatchesCount"]) == (1000, 2)
        assert not scope.keys() & shown.keys()


async def test_a_list_of_the_largest_webhooks_stays_small(api: ApiFixture) -> None:
    quotes, tildes = '"' * 2000, "~" * 2000
    long = {"url": f"{URL}?{quotes}", "fallbackUrl": f"{URL}?{tildes}", "description": "\x01" * 500}
    scope = [f"{number:p>128}" for number in range(1000)]
    for number in range(120):
        ids = scope if number < 10 else []
        await api.acme.webhook(**long, packages=ids, dispatches=ids)
    found: list[str] = []
    query = {"limit": "500"}
    while True:
        response = await api.acme.request("GET", "/v1/webhooks", params=query)
        assert len(response.content) <= 1_000_000
        page = response.json()
        found += [one["id"] for one in page["data"]]
        if "nextCursor" not in page:
            break
        query["cursor"] = page["nextCursor"]
    assert len(found) == len(set(found)) == 120


async def test_every_field_of_a_webhook_is_stored(api: ApiFixture) -> None:
    webhook_input = {
        "url": URL,
        "events": ["session.completed", "package.updated"],
        "description": "The CRM",
        "packages": ["pkg_1"],
        "dispatches": ["dsp_1"],
        "fallbackUrl": "https://spare.example.com/hooks",
        "headers": {"X-Gateway-Key": "canary-of-the-gateway"},
        "fallbackHeaders": {"X-Gateway-Key": "canary-of-the-spare-gateway"},
        "maxConcurrency": 4,
        "timeoutSeconds": 25,
        "retries": ["30s", "2m", "24h", "24h"],
        "pauseAfter": {"failures": 20, "minutes": 60},
        "onGone": "delete",
        "resume": "probe",
        "ratePerSecond": 2.5,
        "rateBurst": 7,
        "fields": ["sessionId", "metadata.department"],
    }
    made = await api.acme.post("/v1/webhooks", webhook_input)
    seen = await api.acme.get(f"/v1/webhooks/{made['id']}")
    del webhook_input["headers"], webhook_input["fallbackHeaders"]
    assert {name: seen[name] for name in webhook_input} == webhook_input | {
        "events": ["package.updated", "session.completed"]
    }
    assert (seen["hasHeaders"], seen["hasFallbackHeaders"]) == (True, True)
    assert "canary" not in str(seen)


@pytest.mark.parametrize(
    ("webhook_input", "field", "message"),
    [
        ({"url": "http://crm.example.com"}, "url", "must start with https://"),
        ({"url": "https://user:pass@crm.example.com"}, "url", "must not hold a user name"),
        ({"url": "https://crm.example.com/#top"}, "url", "must not have a fragment"),
        ({"url": "https://crm.example.com/" + "x" * 2048}, "url", "at most 2048"),
        ({"url": "https://db.internal.example.com/"}, "url", "not a public address"),
        ({"url": URL, "fallbackUrl": "https://db.internal.example.com/"}, "fallbackUrl", "not a public address"),
        ({"url": URL, "fallbackUrl": URL}, "fallbackUrl", "another URL"),
        ({"url": URL, "events": []}, "events", "must name event types"),
        ({"url": URL, "events": ["session.started"]}, "events", "is not an event type"),
        ({"url": URL, "packages": ["no dots. or spaces"]}, "packages[0]", "must be an id"),
        ({"url": URL, "headers": {"Webhook-Id": "mine"}}, "headers", "a header that we set"),
        ({"url": URL, "headers": {"Expect": "100-continue"}}, "headers", "belongs to the connection"),
        ({"url": URL, "headers": {"Proxy-Authorization": "x"}}, "headers", "belongs to the connection"),
        ({"url": URL, "headers": {f"X-{n}": "v" for n in range(11)}}, "headers", "at most 10"),
        ({"url": URL, "maxConcurrency": 0}, "maxConcurrency", "at least 1"),
        ({"url": URL, "timeoutSeconds": 31}, "timeoutSeconds", "at most 30"),
        ({"url": URL, "timeoutSeconds": 2.5}, "timeoutSeconds", "whole number"),
        ({"url": URL, "retries": ["45s"]}, "retries", "take 30s, 2m, 10m, 1h, 6h, or 2 to 28 times 6h"),
        ({"url": URL, "retries": ["2m", "30s"]}, "retries", "as long as the one before"),
        ({"url": URL, "retries": ["soon"]}, "retries", "is not a wait such as"),
        ({"url": URL, "retries": ["192h"]}, "retries", "2 to 28 times 6h"),
        ({"url": URL, "retries": ["6h"] * 21}, "retries", "at most 20"),
        ({"url": URL, "pauseAfter": {"failures": 0}}, "pauseAfter.failures", "at least 1"),
        ({"url": URL, "pauseAfter": {"hours": 1}}, "pauseAfter.hours", "is not a field here"),
        ({"url": URL, "resume": "soon"}, "resume", "'manual' or 'probe'"),
        ({"url": URL, "onGone": "ignore"}, "onGone", "'pause' or 'delete'"),
        ({"url": URL, "ratePerSecond": 0.01}, "ratePerSecond", "at least 0.1"),
        ({"url": URL, "rateBurst": 5}, "rateBurst", "needs ratePerSecond"),
        ({"url": URL, "fields": []}, "fields", "1 or more"),
        ({"url": URL, "fields": ["sesionId"]}, "fields", "'sesionId' is not a field of any type's `data`"),
        ({"url": URL, "fields": ["sequence"] * 51}, "fields", "at most 50"),
        ({"url": URL, "auth": {"type": "digest"}}, "auth", "'basic', 'oauth2'"),
        ({"url": URL, "auth": {"type": "basic", "username": "ada"}}, "auth.password", "is required"),
        ({"url": URL, "auth": {"type": "basic", "username": "a:b", "password": "p"}}, "auth.username", "colon"),
        ({"url": URL, "auth": {**OAUTH2, "tokenUrl": "http://auth.example.com"}}, "auth.tokenUrl", "https://"),
        ({"url": URL, "auth": {**OAUTH2, "tokenUrl": "https://db.internal.example.com/"}}, "auth.tokenUrl", "public"),
        ({"url": URL, "auth": {**OAUTH2, "clientSecret": ""}}, "auth.clientSecret", "must have 1 or more"),
        ({"url": URL, "auth": {**OAUTH2, "secret": "x"}}, "auth.secret", "is not a field here"),
        ({"url": URL, "status": "asleep"}, "status", "'active' or 'paused'"),
        ({"url": URL, "description": "\0"}, "description", "NUL"),
        ({"url": URL, "description": "half \ud83d"}, "description", "surrogate"),
        ({"url": URL, "descriptoin": "CRM"}, "descriptoin", "is not a field here"),
        ({}, "url", "is required"),
    ],
)
async def test_invalid_input_names_the_field_and_the_rule(
    api: ApiFixture, webhook_input: dict[str, Any], field: str, message: str
) -> None:
    # Escaped as ASCII: JSON cannot send a lone surrogate otherwise.
    spelled, headers = json.dumps(webhook_input).encode(), {"Content-Type": "application/json"}
    response = await api.acme.request("POST", "/v1/webhooks", content=spelled, headers=headers)
    assert response.status_code == 422
    assert message in errors_of(response)[field]
    assert (await api.acme.get("/v1/webhooks"))["data"] == []


async def test_a_change_keeps_the_fields_that_it_omits(api: ApiFixture) -> None:
    scope = {"packages": ["pkg_1"], "dispatches": ["dsp_1"]}
    made = await api.acme.webhook(events=["session.completed"], headers={"X-Key": "k"}, fallbackUrl=f"{URL}/2", **scope)
    changed = await api.acme.patch(f"/v1/webhooks/{made['id']}", {"description": "The CRM", "fallbackUrl": None})
    assert changed["description"] == "The CRM"
    assert "fallbackUrl" not in changed
    assert (changed["events"], changed["hasHeaders"]) == (["session.completed"], True)
    assert {name: changed[name] for name in scope} == scope
    assert changed["version"] > made["version"]
    without = await api.acme.patch(f"/v1/webhooks/{made['id']}", {"headers": {}})
    assert without["hasHeaders"] is False
    again = await api.acme.patch(f"/v1/webhooks/{made['id']}", {"headers": {"X-Key": "k"}, "dispatches": []})
    assert (again["hasHeaders"], again["packages"], again["dispatches"]) == (True, ["pkg_1"], [])


async def test_null_takes_a_rule_of_delivery_back(api: ApiFixture) -> None:
    rules: dict[str, Any] = {"timeoutSeconds": 3, "retries": [], "onGone": "delete", "fields": ["sequence"]}
    rules["pauseAfter"] = {"failures": 1, "minutes": 5}
    made = await api.acme.webhook(**rules)
    assert {name: made[name] for name in rules} == rules
    path = f"/v1/webhooks/{made['id']}"
    kept = await api.acme.patch(path, {"description": "The CRM"})
    assert {name: kept[name] for name in rules} == rules
    plain = await api.acme.patch(path, dict.fromkeys(rules))
    assert {name: plain.get(name) for name in rules} == {
        "timeoutSeconds": None,
        "retries": None,
        "pauseAfter": {"failures": 5, "minutes": 0},
        "onGone": "pause",
        "fields": None,
    }
    [entry, *_] = (await api.operator.get("/v1/audit", action="webhook.changed"))["data"]
    assert entry["details"]["changes"]["retries"] == {"from": [], "to": None}


@pytest.mark.parametrize(("url_field", "headers_field"), [("url", "headers"), ("fallbackUrl", "fallbackHeaders")])
async def test_headers_do_not_follow_a_url_to_another_host(api: ApiFixture, url_field: str, headers_field: str) -> None:
    elsewhere, own = "https://evil.example.com/hooks", {"Authorization": "Bearer canary"}
    made = await api.acme.webhook(fallbackUrl=f"{URL}/late", **{headers_field: own})
    path = f"/v1/webhooks/{made['id']}"
    await api.acme.patch(path, {url_field: f"{URL}/2"})
    response = await api.acme.request("PATCH", path, {url_field: elsewhere})
    assert "has another host" in errors_of(response)[headers_field]
    assert (await api.acme.get(path))[url_field] == f"{URL}/2"
    assert (await api.acme.patch(path, {url_field: elsewhere, headers_field: own}))[url_field] == elsewhere
    without = await api.acme.patch(path, {url_field: f"{URL}/3", headers_field: {}})
    assert not without[f"has{headers_field[0].upper()}{headers_field[1:]}"]
    await api.acme.patch(path, {url_field: elsewhere})


async def test_the_secret_of_credentials_is_in_no_response(api: ApiFixture) -> None:
    public = {name: text for name, text in OAUTH2.items() if name != "clientSecret"}
    made = await api.acme.webhook(auth=OAUTH2)
    path = f"/v1/webhooks/{made['id']}"
    assert made["auth"] == public
    # A secret that is left out stays, for the same client at the same server.
    scoped = await api.acme.patch(path, {"auth": {**public, "scope": "events"}})
    assert scoped["auth"] == {**public, "scope": "events"}
    for elsewhere in ({"tokenUrl": "https://evil.example.com/token"}, {"clientId": "other"}):
        response = await api.acme.request("PATCH", path, {"auth": {**public, **elsewhere}})
        assert "must be given again" in errors_of(response)["auth.clientSecret"]
    # Nor does it follow a URL to another host.
    response = await api.acme.request("PATCH", path, {"url": "https://evil.example.com/hooks"})
    assert "the URL has another host" in errors_of(response)["auth.clientSecret"]
    kept = await api.acme.patch(path, {"description": "The CRM", "url": f"{URL}/2"})
    assert kept["auth"] == scoped["auth"]
    basic = await api.acme.patch(path, {"auth": {"type": "basic", "username": "ada", "password": "canary-2"}})
    assert basic["auth"] == {"type": "basic", "username": "ada"}
    without = await api.acme.patch(path, {"auth": None})
    assert "auth" not in without
    audit = await api.operator.get("/v1/audit")
    everything = str([made, scoped, kept, basic, audit, await api.acme.get("/v1/webhooks")])
    assert "canary" not in everything
    assert "authSecret" in str(audit)


async def test_a_viewer_sees_no_query_of_a_token_url(api: ApiFixture) -> None:
    made = await api.acme.webhook(auth={**OAUTH2, "tokenUrl": "https://auth.example.com/token?tenant=7"})
    viewer = await api.with_scopes(api.acme.account_id, "webhooks:read")
    seen = await viewer.get(f"/v1/webhooks/{made['id']}")
    assert seen["auth"]["tokenUrl"] == "https://auth.example.com/token?…"


async def test_a_probe_has_a_time_only_while_it_may_end_a_pause(api: ApiFixture) -> None:
    made = await api.acme.webhook(pauseAfter={"failures": 1})
    path = f"/v1/webhooks/{made['id']}"
    failed = attempt(account_id=api.acme.account_id, webhook_id=made["id"], outcome=OutcomeKind.SERVER_ERROR)
    await api.record(failed)
    paused = await api.acme.get(path)
    assert (paused["status"], paused["resume"], "probeAt" in paused) == ("paused", "manual", False)
    api.clock.advance(2 * 3600)
    probed = await api.acme.patch(path, {"resume": "probe"})
    paused_at = parse_time(paused["pausedAt"])
    assert paused_at
    assert probed["probeAt"] == format_time(paused_at + timedelta(hours=6))
    assert "probeAt" not in await api.acme.patch(path, {"resume": None})
    assert "probeAt" in await api.acme.patch(path, {"resume": "probe"})
    assert "probeAt" not in await api.acme.post(f"{path}/enable")
    by_hand = await api.acme.post(f"{path}/pause")
    assert (by_hand["status"], "probeAt" in by_hand) == ("paused", False)


async def test_a_webhook_may_be_created_paused(api: ApiFixture) -> None:
    made = await api.acme.webhook(status="paused")
    assert (made["status"], made["pauseReason"]) == ("paused", "manual")
    assert made["pausedAt"] == made["createdAt"]
    enabled = await api.acme.post(f"/v1/webhooks/{made['id']}/enable", {"held": "deliver"})
    assert (enabled["status"], "pausedAt" in enabled) == ("active", False)


async def test_a_stale_change_is_refused(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    etag = (await api.acme.request("GET", path)).headers["etag"]
    first = await api.acme.request("PATCH", path, {"description": "first"}, headers={"If-Match": etag})
    assert first.status_code == 200
    second = await api.acme.request("PATCH", path, {"description": "second"}, headers={"If-Match": etag})
    assert (second.status_code, second.json()["type"]) == (412, "/docs/problems#stale")
    third = await api.acme.request("PATCH", path, {"description": "third"}, headers={"If-Match": first.headers["etag"]})
    assert third.json()["description"] == "third"
    for header in ("nonsense", 'W/"1"'):
        assert (await api.acme.request("PATCH", path, {}, headers={"If-Match": header})).status_code == 412
    assert (await api.acme.request("PATCH", path, {}, headers={"If-Match": "*"})).status_code == 200


async def test_an_invalid_change_changes_nothing(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    response = await api.acme.request("PATCH", path, {"description": "new", "url": "http://plain.example.com"})
    assert "https" in errors_of(response)["url"]
    for name in ("url", "fallbackUrl"):
        private = {"description": "new", name: "https://db.internal.example.com/"}
        response = await api.acme.request("PATCH", path, private)
        assert "not a public address" in errors_of(response)[name]
    assert (await api.acme.get(path))["description"] == ""


async def test_pause_and_enable_by_call_and_by_patch(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    for calls in (
        {"pause": ("POST", f"{path}/pause", None), "enable": ("POST", f"{path}/enable", {"held": "discard"})},
        {"pause": ("PATCH", path, {"status": "paused"}), "enable": ("PATCH", path, {"status": "active"})},
    ):
        paused = (await api.acme.request(*calls["pause"])).json()
        assert (paused["status"], paused["pauseReason"]) == ("paused", "manual")
        assert paused["pausedAt"] == "2026-04-10T12:00:00Z"
        assert (await api.acme.request(*calls["pause"])).json()["version"] == paused["version"]
        enabled = (await api.acme.request(*calls["enable"])).json()
        assert enabled["status"] == "active"
        assert "pauseReason" not in enabled


@pytest.mark.parametrize("choice", ["deliver", "keep", "discard"])
async def test_the_choice_for_held_deliveries_is_stored(api: ApiFixture, choice: str) -> None:
    made = await api.acme.webhook()
    await api.acme.post(f"/v1/webhooks/{made['id']}/pause")
    await api.acme.post(f"/v1/webhooks/{made['id']}/enable", {"held": choice})
    async with api.database.transaction() as connection:
        assert list(await connection.scalars(select(pauses.c.choice))) == [choice]


async def test_a_deleted_webhook_is_gone(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    assert (await api.acme.request("DELETE", path)).status_code == 204
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/pause"), ("POST", f"{path}/test")):
        response = await api.acme.request(method, where)
        assert (response.status_code, response.json()["type"]) == (404, "/docs/problems#not-found")
    assert (await api.acme.get("/v1/webhooks"))["data"] == []


async def test_a_list_has_pages_newest_first(api: ApiFixture) -> None:
    made = [await api.acme.webhook(description=str(n)) for n in range(5)]
    seen, cursor = [], None
    while True:
        page = await api.acme.get("/v1/webhooks", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [webhook["id"] for webhook in page["data"]]
        if (cursor := page.get("nextCursor")) is None:
            break
    assert seen == [webhook["id"] for webhook in reversed(made)]
    response = await api.acme.request("GET", "/v1/webhooks?cursor=nonsense")
    assert "nextCursor" in errors_of(response)["cursor"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-04-10", "x"])
async def test_a_forged_cursor_is_refused(api: ApiFixture, at: str) -> None:
    cursor = base64.urlsafe_b64encode(f"{at} wh_1".encode()).decode()
    response = await api.acme.request("GET", "/v1/webhooks", params={"cursor": cursor})
    assert "nextCursor" in errors_of(response)["cursor"]


async def test_a_change_is_confirmed_through_a_database_outage(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: FakePublisher, webhook_id: str) -> bool:
        raise Unavailable("the database is away")

    monkeypatch.setattr(FakePublisher, "is_published", away)
    made = await api.acme.webhook()
    assert made["propagated"] is False
    assert made["secret"].startswith(SECRET_PREFIX)


async def test_without_a_publisher_propagated_is_false(api: ApiFixture) -> None:
    api.publisher.works = False
    assert (await api.acme.webhook())["propagated"] is False


# -- secrets ---------------------------------------------------------------------------------------------------


async def test_both_secrets_are_valid_during_a_rotation(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    rotated = await api.acme.post(f"{path}/secret/rotate", {"overlapHours": 2})
    assert rotated["secret"] != made["secret"]
    assert rotated["oldSecretUntil"] == "2026-04-10T14:00:00Z"
    assert (await api.acme.post(f"{path}/secret"))["secret"] == rotated["secret"]
    again = await api.acme.request("POST", f"{path}/secret/rotate")
    assert (again.status_code, "finish it first" in again.json()["detail"]) == (409, True)
    api.clock.advance(7200)
    assert "oldSecretUntil" not in await api.acme.get(path)
    assert (await api.acme.post(f"{path}/secret/rotate"))["oldSecretUntil"] == "2026-04-11T14:00:00Z"


async def test_a_rotation_may_end_early_or_have_no_overlap(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    await api.acme.post(f"{path}/secret/rotate")
    assert "oldSecretUntil" not in await api.acme.post(f"{path}/secret/finish-rotation")
    await api.acme.post(f"{path}/secret/rotate")
    stolen = await api.acme.post(f"{path}/secret/rotate", {"overlapHours": 0})
    assert "oldSecretUntil" not in stolen
    assert (await api.acme.post(f"{path}/secret"))["secret"] == stolen["secret"]
    too_long = await api.acme.request("POST", f"{path}/secret/rotate", {"overlapHours": 169})
    assert "168" in errors_of(too_long)["overlapHours"]


async def test_the_audit_log_has_actor_and_action_but_no_secret(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    path = f"/v1/webhooks/{made['id']}"
    await api.acme.patch(path, {"description": "new", "maxConcurrency": 2})
    await api.acme.post(f"{path}/pause")
    await api.acme.post(f"{path}/pause")
    await api.acme.post(f"{path}/enable", {"held": "keep"})
    await api.acme.post(f"{path}/secret")
    await api.acme.post(f"{path}/secret/rotate")
    await api.acme.delete(path)
    audit_trail = (await api.acme.get("/v1/account/audit"))["data"]
    assert [audit_entry["action"].removeprefix("webhook.") for audit_entry in reversed(audit_trail)] == [
        "account.opened",
        "created",
        "changed",
        "paused",
        "enabled",
        "secret_shown",
        "secret_rotated",
        "deleted",
    ]
    assert {audit_entry["actor"].partition(":")[0] for audit_entry in audit_trail} == {"key", "test"}
    details = {audit_entry["action"].removeprefix("webhook."): audit_entry["details"] for audit_entry in audit_trail}
    assert details["paused"] == {"reason": "manual", "changes": {"status": {"from": "active", "to": "paused"}}}
    assert details["enabled"] == {"held": "keep", "changes": {"status": {"from": "paused", "to": "active"}}}
    assert details["changed"] == {
        "changes": {"description": {"from": "", "to": "new"}, "maxConcurrency": {"from": 32, "to": 2}}
    }
    assert details["secret_rotated"] == {"overlapHours": 24}
    assert made["secret"] not in str(audit_trail)
    assert {audit_entry["objectId"] for audit_entry in (await api.globex.get("/v1/account/audit"))["data"]} == {
        api.globex.account_id
    }


async def test_a_stored_value_beyond_a_new_limit_is_shown(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    async with api.database.transaction() as connection:
        await connection.execute(webhooks.update().values(max_concurrency=9999, description="x" * 9999))
    [shown] = (await api.acme.get("/v1/webhooks"))["data"]
    assert (shown["id"], shown["maxConcurrency"], len(shown["description"])) == (made["id"], 9999, 9999)


async def test_a_webhook_of_a_newer_release_is_named(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    async with api.database.transaction() as connection:
        await connection.execute(webhooks.update().values(options='{"colour": "blue"}'))
    response = await api.acme.request("GET", f"/v1/webhooks/{made['id']}")
    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "/docs/problems#newer-release"
    assert problem["detail"] == "this release cannot read it: ask again when the upgrade is complete"
    assert [one["id"] for one in (await api.acme.get("/v1/webhooks"))["data"]] == [made["id"]]


async def test_the_audit_log_masks_headers_and_shortens_scopes(api: ApiFixture) -> None:
    made = await api.acme.webhook(headers={"X-Key": "k-secret"})
    changes = {"headers": {}, "fallbackHeaders": {"X-Key": "k-spare"}, "packages": [f"pkg_{n:03}" for n in range(50)]}
    await api.acme.patch(f"/v1/webhooks/{made['id']}", changes)
    audit_trail = (await api.acme.get("/v1/account/audit"))["data"]
    shown = audit_trail[0]["details"]["changes"]
    assert (shown["headers"], shown["fallbackHeaders"]) == ({"from": "•••", "to": None}, {"from": None, "to": "•••"})
    assert shown["packages"]["from"] == []
    assert shown["packages"]["to"] == [*(f"pkg_{n:03}" for n in range(20)), "and 30 more"]
    assert "k-secret" not in str(audit_trail)
    assert "k-spare" not in str(audit_trail)


async def test_an_account_has_a_limited_number_of_webhooks(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", webhooks_per_account=2) as api:
        first, _ = await api.acme.webhook(), await api.acme.webhook()
        response = await api.acme.request("POST", "/v1/webhooks", {"url": URL})
        assert response.status_code == 409
        assert "at most 2: delete one first" in response.json()["detail"]
        assert (await api.globex.request("POST", "/v1/webhooks", {"url": URL})).status_code == 201
        await api.acme.delete(f"/v1/webhooks/{first['id']}")
        assert (await api.acme.request("POST", "/v1/webhooks", {"url": URL})).status_code == 201
