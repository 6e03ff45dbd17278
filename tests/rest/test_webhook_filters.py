"""A webhook's filter by the API: what is taken and shown, and which events it lets through."""

from datetime import timedelta

import pytest

from builders import EXAMPLE, NOON, event
from rest.api_fixture import URL, ApiFixture, errors_of
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.webhooks import account_limits
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS, TEST_DELIVERIES

PASSED = {"successStatus": "passed"}
FAILED = {"successStatus": "failed"}
GOOD = {"scoreRaw": {"gte": 90, "lte": 100}, "metadata.site": {"exists": False}}


async def test_a_filter_is_shown_as_it_was_entered(api: ApiFixture) -> None:
    made = await api.acme.webhook(filter=GOOD)
    place = f"/v1/webhooks/{made['id']}"
    assert made["filter"] == (await api.acme.get(place))["filter"] == GOOD
    [listed] = (await api.acme.get("/v1/webhooks"))["data"]
    assert listed["filter"] == GOOD
    changed = await api.acme.patch(place, {"filter": PASSED})
    assert changed["filter"] == PASSED
    assert (await api.acme.patch(place, {"description": "CRM"}))["filter"] == PASSED
    await api.acme.patch(place, {"filter": None})
    assert "filter" not in await api.acme.get(place)
    [entry] = (await api.acme.get("/v1/account/audit", action="webhook.changed", limit=1))["data"]
    assert entry["details"]["changes"] == {"filter": {"from": PASSED, "to": None}}


async def test_a_wrong_filter_is_named_by_its_field(api: ApiFixture) -> None:
    wrong = {"url": "ftp://x", "events": ["session.completed"], "filter": {"sucessStatus": "passed", "scoreRaw": "9"}}
    errors = errors_of(await api.acme.request("POST", "/v1/webhooks", wrong))
    assert errors.keys() == {"url", "filter.sucessStatus", "filter.scoreRaw"}
    many = {f"field{number}": 1 for number in range(20_000)}
    errors = errors_of(await api.acme.request("POST", "/v1/webhooks", {"url": URL, "filter": many}))
    assert errors == {"filter": "must have at most 10 conditions"}


async def test_types_without_the_field_are_refused(api: ApiFixture) -> None:
    made = await api.acme.webhook(events=["session.completed"], filter=PASSED)
    response = await api.acme.request("PATCH", f"/v1/webhooks/{made['id']}", {"events": ["package.updated"]})
    assert "not a field of an event type" in errors_of(response)["filter.successStatus"]


async def test_filters_count_like_urls(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await api.acme.webhook()
    monkeypatch.setattr(account_limits, "MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT", len(URL) + 30)
    response = await api.acme.request("PATCH", f"/v1/webhooks/{made['id']}", {"filter": {"learnerId": "x" * 30}})
    assert response.status_code == 409
    assert "URLs, headers, filters and rules" in response.text
    await api.acme.patch(f"/v1/webhooks/{made['id']}", {"filter": PASSED})


async def test_a_count_of_webhooks_asks_their_filters(api: ApiFixture) -> None:
    await api.acme.webhook(filter=PASSED)
    await api.acme.webhook(filter=FAILED)
    body = {"type": "session.completed", "createdAt": "2026-04-10T11:32:00Z", "data": dict(EXAMPLE)}
    [accepted] = (await api.acme.post("/v1/events?count=true", body))["events"]
    assert accepted["webhooks"] == 1


async def test_an_event_says_which_condition_does_not_hold(api: ApiFixture) -> None:
    made = await api.acme.webhook(filter=FAILED)
    published = event(id="evt_1", account_id=api.acme.account_id)
    api.kafka.append(Outgoing(SESSION_EVENTS, b"key", AvroCodec().encode(published)))
    since = (NOON - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    found = (await api.acme.get("/v1/events/evt_1", since=since))["onTopic"]
    assert (found["webhooks"], found["reason"]) == ([], "filter")
    assert found["detail"] == f'{made["id"]}: successStatus is "passed", not "failed"'


async def test_a_backfill_asks_the_filter(api: ApiFixture) -> None:
    for number, status in enumerate(["passed", "failed", "failed"]):
        one = event(id=f"evt_{number}", account_id=api.acme.account_id, data={**EXAMPLE, "successStatus": status})
        api.kafka.append(Outgoing(SESSION_EVENTS, b"key", AvroCodec().encode(one)))
    made = await api.acme.webhook(filter=FAILED)
    api.clock.advance(3600)
    period = {"since": "2026-04-10T11:00:00Z", "backfill": True, "countOnly": True}
    assert (await api.acme.post(f"/v1/webhooks/{made['id']}/replays", period))["missing"]["count"] == 2


async def test_a_test_event_ignores_the_filter(api: ApiFixture) -> None:
    made = await api.acme.webhook(filter={"scoreRaw": {"lte": 0}})
    api.app.state.services.synthetic_events._wait_seconds = 0
    await api.acme.request("POST", f"/v1/webhooks/{made['id']}/test")
    assert len(api.kafka.topic(TEST_DELIVERIES)) == 1


async def test_a_name_twice_in_one_object_is_refused(api: ApiFixture) -> None:
    url = f'"url": "{URL}"'
    bodies = {
        "successStatus": f'{{{url}, "filter": {{"successStatus": "passed", "successStatus": "failed"}}}}',
        "gte": f'{{{url}, "filter": {{"scoreRaw": {{"gte": 1, "gte": 2}}}}}}',
        "url": f'{{"url": "https://a.example", {url}}}',
    }
    headers = {"Content-Type": "application/json"}
    for name, body in bodies.items():
        response = await api.acme.request("POST", "/v1/webhooks", content=body.encode(), headers=headers)
        assert errors_of(response) == {name: "occurs twice in one object"}
    assert (await api.acme.get("/v1/webhooks"))["data"] == []
