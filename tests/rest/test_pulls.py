"""A program pulls its events instead of getting requests."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks

from builders import NOON, attempt, delivery, event
from fakes import until
from rest.api_fixture import URL, ApiClient, ApiFixture, errors_of
from streams.core.accounts.access import Scope
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import HoldReason
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.events.event import render

pytestmark = pytest.mark.slow


async def pull_webhook(api: ApiFixture, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.acme.post("/v1/webhooks", {"delivery": "pull", **fields})
    return made


async def hold(api: ApiFixture, webhook_id: str, *event_ids: str) -> None:
    """Record these events, which wait for a reader."""
    for event_id in event_ids:
        owed = delivery(
            account_id=api.acme.account_id,
            webhook_id=webhook_id,
            event_id=event_id,
            body=render(event(id=event_id)),
        )
        await api.record(owed.to_held(HoldReason.PULL, None, is_attempted=False))


def attempt_that_failed(api: ApiFixture, webhook_id: str, number: int) -> Attempt:
    at = NOON + timedelta(seconds=number)
    return attempt(
        account_id=api.acme.account_id,
        webhook_id=webhook_id,
        event_id=f"evt_{number}",
        started_at=at,
        ended_at=at,
        outcome=OutcomeKind.SERVER_ERROR,
        status=500,
    )


async def test_a_pull_webhook_has_no_url(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    assert "url" not in made
    assert (made["delivery"], made["retentionDays"]) == ("pull", 7)
    [listed] = (await api.acme.get("/v1/webhooks"))["data"]
    assert "url" not in listed
    assert (await api.acme.webhook(url=URL))["delivery"] == "push"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"url": URL}, ["url"]),
        ({"fallbackUrl": URL, "retries": [], "timeoutSeconds": 5}, ["fallbackUrl", "timeoutSeconds", "retries"]),
        ({"headers": {"X-Key": "k"}, "onGone": "delete"}, ["headers", "onGone"]),
        ({"auth": {"type": "basic", "username": "ada", "password": "p"}, "resume": "probe"}, ["auth", "resume"]),
        ({"retentionDays": 0}, ["retentionDays"]),
        ({"delivery": "carrier"}, ["delivery"]),
    ],
)
async def test_what_only_requests_need_is_refused(api: ApiFixture, fields: dict[str, Any], wrong: list[str]) -> None:
    refused = await api.acme.request("POST", "/v1/webhooks", {"delivery": "pull", **fields})
    assert list(errors_of(refused)) == wrong


async def test_a_push_webhook_needs_a_url_and_keeps_nothing(api: ApiFixture) -> None:
    refused = await api.acme.request("POST", "/v1/webhooks", {"retentionDays": 3})
    assert list(errors_of(refused)) == ["url", "retentionDays"]


async def test_the_way_of_delivery_can_change(api: ApiFixture) -> None:
    made = await api.acme.webhook(url=URL, headers={"X-Key": "k"}, timeoutSeconds=5)
    path = f"/v1/webhooks/{made['id']}"
    pulled = await api.acme.patch(path, {"delivery": "pull", "retentionDays": 2})
    assert "url" not in pulled
    assert (pulled["hasHeaders"], pulled.get("timeoutSeconds"), pulled["retentionDays"]) == (False, None, 2)
    refused = await api.acme.request("PATCH", path, {"url": URL})
    assert list(errors_of(refused)) == ["url"]
    refused = await api.acme.request("PATCH", path, {"delivery": "push"})
    assert list(errors_of(refused)) == ["url"]
    pushed = await api.acme.patch(path, {"delivery": "push", "url": URL})
    assert (pushed["url"], pushed["delivery"], "retentionDays" in pushed) == (URL, "push", False)


async def test_an_item_is_pulled_verified_and_acknowledged(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    path = f"/v1/webhooks/{made['id']}"
    assert await api.acme.post(f"{path}/pull") == {"items": []}
    await hold(api, made["id"], "evt_1", "evt_2")
    [item] = (await api.acme.post(f"{path}/pull", {"max": 1, "waitSeconds": 0, "leaseSeconds": 30}))["items"]
    at = datetime.fromtimestamp(int(item["headers"]["webhook-timestamp"]), UTC)
    signature = standardwebhooks.Webhook(made["secret"]).sign(item["headers"]["webhook-id"], at, item["body"])
    assert item["headers"]["webhook-signature"] == signature
    assert json.loads(item["body"])["id"] == item["headers"]["webhook-id"]
    settled = await api.acme.post(f"{path}/ack", {"ids": [item["id"], "dlv_unknown"]})
    assert settled == {"ids": [item["id"]], "unknown": ["dlv_unknown"]}
    shown = await api.acme.get(f"/v1/deliveries/{item['id']}")
    assert (shown["state"], shown["attemptCount"]) == ("delivered", 1)
    [attempt] = shown["attempts"]
    assert (attempt["outcome"], attempt["message"]) == ("delivered", "A reader pulled and acknowledged it.")


async def test_an_item_that_is_given_back_comes_again(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    path = f"/v1/webhooks/{made['id']}"
    await hold(api, made["id"], "evt_1")
    [item] = (await api.acme.post(f"{path}/pull"))["items"]
    assert await api.acme.post(f"{path}/nack", {"ids": [item["id"]]}) == {"ids": [item["id"]], "unknown": []}
    [again] = (await api.acme.post(f"{path}/pull"))["items"]
    assert (again["id"], again["headers"]["webhook-attempt"]) == (item["id"], "2")


async def test_a_reader_that_waits_gets_what_comes(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    reading = asyncio.create_task(api.acme.post(f"/v1/webhooks/{made['id']}/pull", {"waitSeconds": 25}))
    await asyncio.sleep(0)
    await hold(api, made["id"], "evt_1")
    [item] = (await reading)["items"]
    assert item["headers"]["webhook-id"] == "evt_1"


async def test_a_key_that_ends_during_a_wait_reads_nothing(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    added = await api.access.add_key(api.acme.account_id, "reader", [Scope.DELIVERIES_WRITE], actor="test")
    reader, path = ApiClient(api.client, added.api_key), f"/v1/webhooks/{made['id']}/pull"
    reading = asyncio.create_task(reader.request("POST", path, {"waitSeconds": 25}))
    await until(lambda: bool(api.app.state.services.pulls._waits._readers))
    await api.access.revoke_key(api.acme.account_id, added.key.id, actor="test")
    await hold(api, made["id"], "evt_1")
    assert (await reading).status_code == 401
    # Nobody has a lease of it.
    assert len((await api.acme.post(path))["items"]) == 1


async def test_a_key_repeats_no_pull(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    path, key = f"/v1/webhooks/{made['id']}/pull", {"Idempotency-Key": "first"}
    assert (await api.acme.request("POST", path, headers=key)).json() == {"items": []}
    await hold(api, made["id"], "evt_1")
    assert len((await api.acme.request("POST", path, headers=key)).json()["items"]) == 1


async def test_a_webhook_paused_by_failures_is_active_when_pulled(api: ApiFixture) -> None:
    made = await api.acme.webhook(url=URL)
    await api.record(*(attempt_that_failed(api, made["id"], number) for number in range(5)))
    path = f"/v1/webhooks/{made['id']}"
    assert (await api.acme.get(path))["pauseReason"] == "failures"
    changed = await api.acme.patch(path, {"delivery": "pull"})
    assert (changed["status"], "pauseReason" in changed) == ("active", False)


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("pull", {"max": 0}, "max"),
        ("pull", {"max": 101}, "max"),
        ("pull", {"waitSeconds": 26}, "waitSeconds"),
        ("pull", {"leaseSeconds": 0}, "leaseSeconds"),
        ("ack", {"ids": []}, "ids"),
        ("ack", {"ids": ["dlv_1"] * 1001}, "ids"),
        ("nack", {"ids": ["dlv_1"], "waitSeconds": -1}, "waitSeconds"),
        ("nack", {}, "ids"),
    ],
)
async def test_a_wrong_request_names_the_field(api: ApiFixture, route: str, body: dict[str, Any], field: str) -> None:
    made = await pull_webhook(api)
    refused = await api.acme.request("POST", f"/v1/webhooks/{made['id']}/{route}", body)
    assert list(errors_of(refused)) == [field]


async def test_only_its_own_account_pulls_a_pull_webhook(api: ApiFixture) -> None:
    made, pushed = await pull_webhook(api), await api.acme.webhook(url=URL)
    for route, body in (("pull", {}), ("ack", {"ids": ["dlv_1"]}), ("nack", {"ids": ["dlv_1"]})):
        other = await api.globex.request("POST", f"/v1/webhooks/{made['id']}/{route}", body)
        assert other.status_code == 404
    by_requests = await api.acme.request("POST", f"/v1/webhooks/{pushed['id']}/pull")
    assert by_requests.status_code == 409
    assert "change its delivery to pull first" in by_requests.json()["detail"]


async def test_a_pull_of_the_largest_events_is_no_large_response(api: ApiFixture) -> None:
    made = await pull_webhook(api)
    # Each quote is two bytes of a body, and four of the response.
    data = {**event().data, "metadata": {f"name_{number}": '"' * 500 for number in range(20)}}
    for number in range(100):
        body = render(event(id=f"evt_{number}", data=data))
        owed = delivery(account_id=api.acme.account_id, webhook_id=made["id"], event_id=f"evt_{number}", body=body)
        await api.record(owed.to_held(HoldReason.PULL, None, is_attempted=False))
    response = await api.acme.request("POST", f"/v1/webhooks/{made['id']}/pull", {"max": 100})
    assert 1 < len(response.json()["items"]) < 100
    assert len(response.content) < 1024 * 1024


async def test_a_temporary_webhook_is_for_readers_alone(api: ApiFixture) -> None:
    made = await pull_webhook(api, temporary=True)
    assert made["expiresAt"] == "2026-04-10T13:00:00Z"
    refused = await api.acme.request("PATCH", f"/v1/webhooks/{made['id']}", {"delivery": "push", "url": URL})
    assert errors_of(refused) == {"delivery": "of a temporary webhook must be pull"}
    assert "expiresAt" not in await pull_webhook(api)
    pushed = await api.acme.request("POST", "/v1/webhooks", {"url": URL, "temporary": True})
    assert errors_of(pushed) == {"temporary": "is for delivery pull alone"}


async def test_a_test_event_has_data_of_ones_own(api: ApiFixture) -> None:
    path = f"/v1/webhooks/{(await pull_webhook(api))['id']}/test"
    wrong = {"type": "session.scored", "data": {"scoreRaw": "high", "colour": 1}}
    assert set(errors_of(await api.acme.request("POST", path, wrong))) == {"data.scoreRaw", "data.colour"}
    missing = {"type": "session.scored", "data": {"sessionId": None}}
    assert set(errors_of(await api.acme.request("POST", path, missing))) == {"data.sessionId"}
    large = {"type": "session.completed", "data": {"metadata": {f"m{number}": "é" * 500 for number in range(20)}}}
    assert (await api.acme.request("POST", path, {**large, "type": "session.flown"})).status_code == 422
