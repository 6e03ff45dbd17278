"""Replays of one webhook by time, and cancelled jobs, by the API."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from builders import NOON, attempt, dead_letter, delivery, event
from rest.api_fixture import ApiFixture, errors_of
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.tables.accounts import jobs
from streams.core.deliveries.backfill import MIN_EVENT_AGE
from streams.core.deliveries.delivery import Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import DeliveryState
from streams.features.replays import missing_events
from streams.features.shared import event_scan
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS

SINCE = "2026-04-10T10:00:00Z"


async def delivered(api: ApiFixture, webhook_id: str, number: int, **changes: Any) -> Delivery:
    """A delivered event, first seen this many minutes before noon."""
    seen = NOON - timedelta(minutes=number)
    known = {"account_id": api.acme.account_id, "webhook_id": webhook_id, "event_id": f"evt_{number}"}
    mine = delivery(**known, first_seen_at=seen)._replace(**changes)
    done = attempt(**known, first_seen_at=seen, event_type=mine.event_type)
    await api.record(mine, done, at=seen)
    return mine


def published(api: ApiFixture, number: int, **changes: Any) -> None:
    """An event on the topic, without a delivery."""
    happened = event(id=f"evt_{number}", account_id=api.acme.account_id, **changes)
    api.kafka.append(Outgoing(SESSION_EVENTS, b"%d" % number, AvroCodec().encode(happened)))


async def state(api: ApiFixture, known: Delivery) -> DeliveryState:
    seen = await api.app.state.services.deliveries.find(known.id)
    found: DeliveryState = seen.delivery_state
    return found


async def test_a_count_starts_nothing(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    for number in (1, 2, 200):
        await delivered(api, made["id"], number)
    path = f"/v1/webhooks/{made['id']}/replays"
    response = await api.acme.request("POST", path, {"since": SINCE, "countOnly": True})
    assert response.status_code == 200
    counted = response.json()
    assert counted.pop("estimatedSeconds") < 1
    period = {"oldestAt": "2026-04-10T11:58:00Z", "newestAt": "2026-04-10T11:59:00Z"}
    assert counted == {"count": 2, "countedAt": "2026-04-10T12:00:00Z", **period}
    assert await api.jobs.list_unfinished("") == []


async def test_a_period_is_sent_again_with_the_same_ids(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    first, second, old = [await delivered(api, made["id"], number) for number in (1, 2, 200)]
    path = f"/v1/webhooks/{made['id']}/replays"
    response = await api.acme.request("POST", path, {"since": SINCE})
    assert response.status_code == 202
    job = response.json()
    assert (job["kind"], job["status"], job["total"], job["webhookId"]) == ("replay", "running", 2, made["id"])
    # Events of the last moment may be stored late, and are sent too.
    asked_at = api.clock.now()
    assert datetime.fromisoformat(job["waitsUntil"]) == asked_at + MIN_EVENT_AGE
    assert (await api.finish(job["id"])).done == 2
    ended = await api.acme.get(f"/v1/jobs/{job['id']}")
    assert (ended["status"], ended["done"], ended["failed"]) == ("finished", 2, 0)
    assert "waitsUntil" not in ended
    for known in (first, second):
        again = await state(api, known)
        assert (again.state, again.reason, again.generation) == (State.HELD, HoldReason.REPLAY, 2)
    assert (await state(api, old)).state is State.DELIVERED
    [entry] = [one for one in (await api.acme.get("/v1/account/audit"))["data"] if one["action"] == "webhook.replayed"]
    assert (entry["objectId"], entry["details"]["job"]) == (made["id"], job["id"])


async def test_states_and_types_choose(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    await delivered(api, made["id"], 1)
    scored = await delivered(api, made["id"], 2, event_type="session.scored")
    dead = dead_letter(delivery=scored._replace(event_id="evt_dead", step=7, attempt=7))
    await api.record(dead, at=NOON - timedelta(minutes=2))
    path = f"/v1/webhooks/{made['id']}/replays"
    for choice, count in (
        ({}, 3),
        ({"states": ["dead"]}, 1),
        ({"states": ["discarded"]}, 0),
        ({"eventTypes": ["session.scored"]}, 2),
        ({"eventTypes": ["session.scored"], "states": ["delivered"]}, 1),
        ({"until": "2026-04-10T11:58:30Z"}, 2),
    ):
        counted = await api.acme.post(path, {"since": SINCE, "countOnly": True, **choice})
        assert counted["count"] == count, choice


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "since", "is required"),
        ({"since": "yesterday"}, "since", "must be a time with a zone"),
        ({"since": "2026-04-10T13:00:00Z"}, "since", "must be in the past"),
        ({"since": SINCE, "until": SINCE}, "until", "must be later than since"),
        ({"since": SINCE, "states": ["held"]}, "states", "held and waiting deliveries are sent anyway"),
        ({"since": SINCE, "states": []}, "states", "must name a state"),
        ({"since": SINCE, "eventTypes": ["session.nonsense"]}, "eventTypes", "is not one of: session.launched"),
    ],
)
async def test_a_wrong_request_names_the_field(api: ApiFixture, body: dict[str, Any], field: str, message: str) -> None:
    made = await api.acme.webhook()
    response = await api.acme.request("POST", f"/v1/webhooks/{made['id']}/replays", body)
    assert response.status_code == 422
    assert message in errors_of(response)[field]


async def test_a_webhook_has_one_replay_at_a_time(api: ApiFixture) -> None:
    made, other = await api.acme.webhook(), await api.acme.webhook()
    first = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": SINCE})
    second = await api.acme.request("POST", f"/v1/webhooks/{made['id']}/replays", {"since": SINCE})
    assert (second.status_code, first["id"] in second.json()["detail"]) == (409, True)
    await api.acme.post(f"/v1/webhooks/{other['id']}/replays", {"since": SINCE})
    await api.finish(first["id"])
    await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": SINCE})


async def test_a_job_is_cancelled_once(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    known = await delivered(api, made["id"], 1)
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": SINCE})
    for _ in range(2):
        cancelled = await api.acme.post(f"/v1/jobs/{job['id']}/cancel")
        assert (cancelled["status"], cancelled["done"]) == ("cancelled", 0)
    assert (await api.jobs.do_next_portion(job["id"])).done == 0
    assert (await state(api, known)).state is State.DELIVERED
    audit = (await api.acme.get("/v1/account/audit"))["data"]
    assert [one["objectId"] for one in audit if one["action"] == "job.cancelled"] == [job["id"]]


async def test_a_finished_job_is_not_cancelled(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": SINCE})
    await api.finish(job["id"])
    response = await api.acme.request("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (response.status_code, "the job is finished" in response.json()["detail"]) == (409, True)


async def test_a_backfill_counts_and_adds_missing_events(api: ApiFixture) -> None:
    made = await api.acme.webhook(events=["session.completed"])
    for number in (1, 2, 3):
        published(api, number)
    published(api, 4, type="package.updated", data={"packageId": "pkg_1", "version": "2"})
    known = await delivered(api, made["id"], 1)
    api.clock.advance(60)
    path = f"/v1/webhooks/{made['id']}/replays"
    wanted = {"since": SINCE, "backfill": True}
    counted = await api.acme.post(path, {**wanted, "countOnly": True})
    assert counted["count"] == 1
    assert counted["missing"] == {"count": 2, "atLeast": False, "oldestAvailable": "2026-04-10T12:00:00Z"}
    job = await api.acme.post(path, wanted)
    await api.finish(job["id"])
    ended = await api.acme.get(f"/v1/jobs/{job['id']}")
    backfill = ended["backfill"]
    assert (ended["done"], backfill["added"], backfill["skipped"]) == (1, 2, 1)
    assert (backfill["read"], backfill["records"]) == (4, 4)
    assert (await state(api, known)).generation == 2
    rows = (await api.acme.get("/v1/deliveries", state="held"))["data"]
    assert {row["eventId"] for row in rows} == {"evt_1", "evt_2", "evt_3"}


async def test_a_count_without_kafka_says_so(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    api.history.away = True
    path = f"/v1/webhooks/{made['id']}/replays"
    assert (await api.acme.request("POST", path, {"since": SINCE, "countOnly": True})).status_code == 200
    response = await api.acme.request("POST", path, {"since": SINCE, "countOnly": True, "backfill": True})
    assert response.status_code == 503


async def test_a_count_that_takes_too_long_says_at_least(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_events, "MAX_COUNTED_RECORDS", 2)
    monkeypatch.setattr(event_scan, "RECORDS_PER_READ", 2)
    made = await api.acme.webhook()
    for number in range(5):
        published(api, number)
    api.clock.advance(60)
    path = f"/v1/webhooks/{made['id']}/replays"
    counted = await api.acme.post(path, {"since": SINCE, "countOnly": True, "backfill": True})
    assert (counted["missing"]["count"], counted["missing"]["atLeast"]) == (2, True)


async def test_a_job_of_a_newer_release_is_named(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": "2026-04-10T11:00:00Z"})
    async with api.database.transaction() as connection:
        await connection.execute(jobs.update().values(kind="resend"))
    for method, path in (("GET", f"/v1/jobs/{job['id']}"), ("POST", f"/v1/jobs/{job['id']}/cancel")):
        response = await api.acme.request(method, path)
        assert response.status_code == 409, response.text
        assert response.json()["detail"] == (
            f"this release cannot read the job {job['id']}: a newer one made it, and can do it"
        )
