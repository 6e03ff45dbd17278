"""Events published by HTTP, and the list of event types."""

import json
from pathlib import Path
from typing import Any

import pytest

from builders import EXAMPLE, NOON, event
from rest.api_fixture import ApiFixture, errors_of, open_api
from streams.adapters.avro.codec import AvroCodec
from streams.core.errors import Invalid
from streams.core.events.event import Event, check_event, render
from streams.core.events.event_data import EVENT_TYPES, data_errors
from streams.features.events import ingest
from streams.testing import FakeProducer
from streams.topics import SESSION_EVENTS

COMPLETED = {"type": "session.completed", "createdAt": "2026-04-10T14:32:00Z", "data": dict(EXAMPLE)}


def published(api: ApiFixture) -> list[Event]:
    codec = AvroCodec()
    found = [
        codec.decode(record.value or b"")
        for partition in api.kafka.partitions(SESSION_EVENTS)
        for record in api.kafka.records(partition)
    ]
    return [value for value in found if isinstance(value, Event)]


async def test_an_accepted_event_is_on_the_topic(api: ApiFixture) -> None:
    response = await api.acme.request("POST", "/v1/events", COMPLETED)
    assert response.status_code == 202
    [event] = published(api)
    assert response.json() == {"ids": [event.id], "events": [{"id": event.id}]}
    assert event.account_id == api.acme.account_id
    assert event.data["learnerId"] == "learner-42"


async def test_a_batch_has_up_to_500_events(api: ApiFixture) -> None:
    events = [{**COMPLETED, "id": f"evt_{n}"} for n in range(500)]
    assert (await api.acme.post("/v1/events", {"events": events}))["ids"] == [f"evt_{n}" for n in range(500)]
    assert len(published(api)) == 500
    too_many = await api.acme.request("POST", "/v1/events", {"events": [*events, COMPLETED]})
    assert errors_of(too_many) == {"events": "must be from 1 to 500 events"}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"events": [COMPLETED, {**COMPLETED, "type": "session.over"}]}, "events[1].type", "must be one of"),
        ({**COMPLETED, "data": {}}, "data.sessionId", "is required"),
        ({**COMPLETED, "accountId": "acc_other"}, "accountId", "must be the account of the API key"),
        ({**COMPLETED, "id": "no.dots"}, "id", "must be an id"),
        ({"events": [COMPLETED, 7]}, "events[1]", "must be an object"),
        ({"events": []}, "events", "from 1 to 500"),
        ({"events": COMPLETED}, "events", "must be a list"),
        ({"events": [], "type": "x"}, "type", "is not a field next to events"),
    ],
)
async def test_one_invalid_event_refuses_the_batch(api: ApiFixture, body: Any, field: str, message: str) -> None:
    response = await api.acme.request("POST", "/v1/events", body)
    assert response.status_code == 422
    assert message in errors_of(response)[field]
    assert published(api) == []


WHOLE = {**COMPLETED, "accountId": "acc_1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        COMPLETED,
        {**WHOLE, "type": "session.ended"},
        {**WHOLE, "type": 5, "traceParent": 7, "id": 9},
        {**WHOLE, "type": None, "traceParent": None, "createdAt": None, "data": None},
        {**WHOLE, "createdAt": "9999-12-31T00:00:00Z", "id": "no.dots"},
        {**WHOLE, "data": [1]},
        {**WHOLE, "data": {"sessionId": 1, "scoreRaw": "x"}},
        {**WHOLE, "data": {f"field{n}": n for n in range(60)}},
        {**WHOLE, **{f"field{n}": n for n in range(60)}},
        {**WHOLE, **{f"field{n}": n for n in range(30)}},
        {**WHOLE, "x" * 500: 1, "\ud800": 2},
    ],
)
async def test_a_producers_problem_is_that_of_the_api(api: ApiFixture, wrong: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    response = await api.operator.request("POST", "/v1/events", content=json.dumps(wrong).encode(), headers=headers)
    with pytest.raises(Invalid) as refused:
        FakeProducer().publish(wrong)
    problem = refused.value.to_problem()
    assert {**problem, "requestId": response.json()["requestId"]} == response.json()
    assert problem["status"] == response.status_code == 422
    assert len(problem["errors"]) + problem.get("omittedErrors", 0) == len(refused.value.errors)


async def test_an_operator_must_name_the_account_of_events(api: ApiFixture) -> None:
    unnamed = await api.operator.request("POST", "/v1/events", COMPLETED)
    assert errors_of(unnamed) == {"accountId": "is required"}
    await api.operator.post("/v1/events", {**COMPLETED, "accountId": api.globex.account_id})
    assert [event.account_id for event in published(api)] == [api.globex.account_id]


async def test_an_account_may_publish_ten_seconds_worth_at_once(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", max_events_per_second=2) as api:
        batch = {"events": [COMPLETED] * 20}
        assert (await api.acme.request("POST", "/v1/events", batch)).status_code == 202
        refused = await api.acme.request("POST", "/v1/events", batch)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert f"too many events of the account {api.acme.account_id}" in refused.json()["detail"]
        assert len(published(api)) == 20
        assert (await api.globex.request("POST", "/v1/events", batch)).status_code == 202


async def test_a_customer_uses_nothing_of_the_operators_limit(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", max_events_per_second=2) as api:
        await api.acme.post("/v1/events", {"events": [COMPLETED] * 30})
        of_both = [{**COMPLETED, "accountId": account.account_id} for account in (api.acme, api.globex)]
        assert (await api.operator.request("POST", "/v1/events", {"events": of_both})).status_code == 202


async def test_without_acknowledgement_a_repeat_has_the_same_ids(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "ACKNOWLEDGEMENT_TIMEOUT_SECONDS", 0.05)
    headers = {"Idempotency-Key": "order-7"}
    api.kafka.leave()
    first = await api.acme.request("POST", "/v1/events", {"events": [COMPLETED, COMPLETED]}, headers=headers)
    assert (first.status_code, first.headers["retry-after"]) == (503, "5")
    assert "may have them. Send the same bytes again" in first.text
    api.kafka.come_back()
    second = await api.acme.request("POST", "/v1/events", {"events": [COMPLETED, COMPLETED]}, headers=headers)
    third = await api.acme.request("POST", "/v1/events", {"events": [COMPLETED, COMPLETED]}, headers=headers)
    assert second.json() == third.json()
    assert len(set(second.json()["ids"])) == 2
    assert sorted({event.id for event in published(api)}) == sorted(second.json()["ids"])
    other = await api.globex.request("POST", "/v1/events", {"events": [COMPLETED, COMPLETED]}, headers=headers)
    assert set(other.json()["ids"]).isdisjoint(second.json()["ids"])


async def test_an_expired_idempotency_key_makes_new_ids(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "nightly-export"}
    first = await api.acme.request("POST", "/v1/events", COMPLETED, headers=headers)
    services = api.app.state.services
    [key] = await api.operator.get(f"/v1/accounts/{api.acme.account_id}/keys")
    await services.responses.forget(f"key:{key['id']}", "nightly-export", api.clock.now())
    later = {**COMPLETED, "createdAt": "2026-04-10T15:32:00Z"}
    second = await api.acme.request("POST", "/v1/events", later, headers=headers)
    assert first.json()["ids"] != second.json()["ids"]


async def test_a_field_name_with_a_lone_surrogate_is_refused(api: ApiFixture) -> None:
    body, headers = b'{"type": "package.updated", "\\ud800": 1}', {"Content-Type": "application/json"}
    response = await api.acme.request("POST", "/v1/events", content=body, headers=headers)
    assert errors_of(response)["?"] == "is not a field of an event"


async def test_each_event_type_has_a_schema_and_an_example(api: ApiFixture) -> None:
    types = await api.acme.get("/v1/event-types")
    assert [one["type"] for one in types] == list(EVENT_TYPES)
    for one in types:
        data = one["example"]["data"]
        assert data_errors(one["type"], data) == []
        assert data.keys() <= one["dataSchema"]["properties"].keys()
        assert set(one["dataSchema"]["required"]) <= data.keys()


async def test_the_example_is_the_body_that_a_receiver_gets(api: ApiFixture) -> None:
    await api.acme.post("/v1/events", {**COMPLETED, "id": "evt_1"})
    [event] = published(api)
    assert b'"scoreRaw":92' in render(event)


async def test_the_examples_of_the_documentation_are_accepted(api: ApiFixture) -> None:
    schema = (await api.anonymous.request("GET", "/openapi.json")).json()
    content = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert (await api.acme.request("POST", "/v1/events", example["value"])).status_code == 202


async def test_an_event_that_kafka_refuses_is_named(api: ApiFixture) -> None:
    api.kafka.most_bytes[SESSION_EVENTS] = 600
    large = {**COMPLETED, "data": {**EXAMPLE, "learnerId": "x" * 1000}}
    response = await api.acme.request("POST", "/v1/events", {"events": [COMPLETED, large]})
    assert response.status_code == 422
    assert "Kafka refuses it" in errors_of(response)["events[1]"]
    assert len(published(api)) == 1


# -- metadata, and the schemas that records are written with ----------------------------------------------------------

WITH_METADATA = {**COMPLETED, "data": {**EXAMPLE, "metadata": {"department": "sales"}, "sequence": 7}}


async def test_metadata_reaches_the_body(api: ApiFixture) -> None:
    assert (await api.acme.request("POST", "/v1/events", WITH_METADATA)).status_code == 202
    [event] = published(api)
    data = json.loads(render(event))["data"]
    assert (data["metadata"], data["sequence"]) == ({"department": "sales"}, 7)


async def test_a_learner_with_nul_is_refused_at_every_door(api: ApiFixture) -> None:
    learner = "learner\0" + "42"
    response = await api.acme.request("POST", "/v1/events", {**COMPLETED, "data": {**EXAMPLE, "learnerId": learner}})
    assert errors_of(response) == {"data.learnerId": "must be a text of 1 to 1024 characters, without NUL"}
    session = {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": learner}
    assert "NUL" in errors_of(await api.acme.request("POST", "/v1/sessions", session))["learnerId"]
    assert published(api) == []


def test_a_record_with_nul_in_its_learner_is_invalid() -> None:
    with pytest.raises(Invalid, match="without NUL"):
        check_event(event(data={**EXAMPLE, "learnerId": "learner\0"}), NOON)
