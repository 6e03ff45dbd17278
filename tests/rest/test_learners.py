"""Learners are erased by the API."""

from typing import Any

import pytest

from builders import EXAMPLE, NOON, attempt, delivery, event
from rest.api_fixture import ApiClient, ApiFixture, errors_of
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery
from streams.features.learners import service
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS

LEARNER = str(EXAMPLE["learnerId"])


async def waiting(api: ApiFixture) -> Delivery:
    """A delivery of the learner, which waits for its first attempt."""
    made = await api.acme.webhook()
    owed = delivery(account_id=api.acme.account_id, webhook_id=made["id"])
    await api.record(owed)
    return owed


async def test_an_erasure_says_what_is_gone_and_what_is_left(api: ApiFixture) -> None:
    owed = await waiting(api)
    response = await api.acme.request("POST", "/v1/learners/erase", {"learnerId": LEARNER})
    assert response.status_code == 200
    erasure = response.json()
    assert (erasure["status"], erasure["accountId"]) == ("finished", api.acme.account_id)
    assert erasure["propagated"] is True
    assert erasure["erasedAt"] == erasure["finishedAt"] == "2026-04-10T12:00:00Z"
    assert {kind: count for kind, count in erasure["erased"].items() if count} == {
        "events": 1,
        "deliveries": 1,
        "discarded": 1,
    }
    topics = {topic["name"]: topic for topic in erasure["topics"]}
    assert topics["session-events"] == {"name": "session-events", "retentionDays": 7, "until": "2026-04-17T12:00:00Z"}
    assert topics["deliveries.dead-letter"]["until"] == "2026-05-10T12:00:00Z"
    assert "subscriptions" not in topics
    assert LEARNER not in response.text
    seen = await api.acme.get(f"/v1/deliveries/{owed.id}")
    assert (seen["state"], seen["reason"], seen["generation"]) == ("discarded", "erased", 2)
    assert "payload" not in seen
    assert await api.acme.get(f"/v1/learners/erasures/{erasure['id']}") == erasure


async def test_a_count_erases_nothing(api: ApiFixture) -> None:
    owed = await waiting(api)
    count = {"learnerId": LEARNER, "countOnly": True}
    assert await api.acme.post("/v1/learners/erase", count) == {"deliveries": 1}
    assert await api.globex.post("/v1/learners/erase", count) == {"deliveries": 0}
    assert (await api.acme.get(f"/v1/deliveries/{owed.id}"))["state"] == "waiting"


@pytest.mark.usefixtures("no_publication_wait")
async def test_an_erasure_that_is_not_on_the_topic_says_so(api: ApiFixture) -> None:
    api.publisher.works = False
    erasure = await api.acme.post("/v1/learners/erase", {"learnerId": LEARNER})
    assert (erasure["status"], erasure["propagated"]) == ("finished", False)
    api.publisher.works = True
    assert (await api.acme.get(f"/v1/learners/erasures/{erasure['id']}"))["propagated"] is True


async def test_an_erased_delivery_cannot_be_retried(api: ApiFixture) -> None:
    owed = await waiting(api)
    await api.record(attempt(account_id=owed.account_id, webhook_id=owed.webhook_id))
    await api.acme.post("/v1/learners/erase", {"learnerId": LEARNER})
    response = await api.acme.request("POST", f"/v1/deliveries/{owed.id}/retry")
    assert errors_of(response) == {"delivery": "cannot be sent again: its learner was erased"}
    assert await api.acme.post("/v1/dead-letters/retry", {"ids": [owed.id]}) == {"ids": [], "unknown": []}
    path = f"/v1/webhooks/{owed.webhook_id}/replays"
    counted = await api.acme.post(path, {"since": "2026-04-10T10:00:00Z", "countOnly": True})
    assert counted["count"] == 0


async def test_a_backfill_does_not_count_erased_events(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    for number, learner in enumerate((LEARNER, "another")):
        happened = event(id=f"evt_{number}", account_id=api.acme.account_id, data={**EXAMPLE, "learnerId": learner})
        api.kafka.append(Outgoing(SESSION_EVENTS, b"%d" % number, AvroCodec().encode(happened)))
    api.clock.advance(60)
    wanted = {"since": "2026-04-10T10:00:00Z", "backfill": True, "countOnly": True}
    path = f"/v1/webhooks/{made['id']}/replays"
    assert (await api.acme.post(path, wanted))["missing"]["count"] == 2
    await api.acme.post("/v1/learners/erase", {"learnerId": LEARNER})
    assert (await api.acme.post(path, wanted))["missing"]["count"] == 1


async def test_an_operator_names_the_account(api: ApiFixture) -> None:
    await waiting(api)
    body: dict[str, Any] = {"learnerId": LEARNER}
    missing = await api.operator.request("POST", "/v1/learners/erase", body)
    assert errors_of(missing) == {"accountId": "is required with an operator's key"}
    unknown = await api.operator.request("POST", "/v1/learners/erase", {**body, "accountId": "nobody"})
    assert errors_of(unknown) == {"accountId": "there is no account nobody"}
    erasure = await api.operator.post("/v1/learners/erase", {**body, "accountId": api.acme.account_id})
    assert erasure["erased"]["events"] == 1
    assert await api.operator.get(f"/v1/learners/erasures/{erasure['id']}") == erasure
    [entry] = (await api.operator.get("/v1/audit", action="learner.erased"))["data"]
    assert (entry["actor"].partition(":")[0], entry["objectId"]) == ("operator", erasure["id"])


async def test_a_key_erases_in_its_own_account_only(api: ApiFixture) -> None:
    await waiting(api)
    body = {"learnerId": LEARNER, "accountId": api.acme.account_id}
    assert "accountId" in errors_of(await api.globex.request("POST", "/v1/learners/erase", body))
    assert (await api.globex.post("/v1/learners/erase", {"learnerId": LEARNER}))["erased"]["events"] == 0
    assert (await api.acme.post("/v1/learners/erase", body))["erased"]["events"] == 1


async def test_a_first_key_may_erase_and_an_older_one_may_not(api: ApiFixture) -> None:
    old = await api.with_scopes(api.acme.account_id, "webhooks:write", "deliveries:write", "events:write")
    assert (await old.request("POST", "/v1/learners/erase", {"learnerId": LEARNER})).status_code == 403
    opened = await api.operator.post("/v1/accounts", {"name": "New"})
    await ApiClient(api.client, opened["apiKey"]).post("/v1/learners/erase", {"learnerId": LEARNER})


async def test_a_long_erasure_goes_on_after_its_request(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FINISH_WAIT_SECONDS", 0.0)
    await waiting(api)
    response = await api.acme.request("POST", "/v1/learners/erase", {"learnerId": LEARNER})
    erasure = response.json()
    assert (response.status_code, erasure["status"], erasure["erased"]["events"]) == (202, "running", 0)
    # As `publish` does.
    learners = api.app.state.services.learners
    await learners.finish((await learners.find(erasure["id"])).erasure)
    finished = await api.acme.get(f"/v1/learners/erasures/{erasure['id']}")
    assert (finished["status"], finished["erased"]["events"]) == ("finished", 1)


@pytest.mark.parametrize("learner", ["", "a" * 1025, "a\0b", 42, None])
async def test_a_wrong_learner_id_is_named(api: ApiFixture, learner: object) -> None:
    response = await api.acme.request("POST", "/v1/learners/erase", {"learnerId": learner})
    assert (response.status_code, list(errors_of(response))) == (422, ["learnerId"])


async def test_a_repeated_request_gets_the_same_response(api: ApiFixture) -> None:
    owed = await waiting(api)
    once = {"json": {"learnerId": LEARNER}, "headers": {"Idempotency-Key": "once"}}
    first = await api.acme.request("POST", "/v1/learners/erase", **once)
    await api.record(owed, at=NOON)
    again = await api.acme.request("POST", "/v1/learners/erase", **once)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
