"""An integrator finds deliveries, and replays or discards dead letters."""

import asyncio
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOON, attempt, delivery
from fakes import postponed_work
from rest.api_fixture import ApiFixture, errors_of, open_api
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.core.accounts.mail import PAUSE_GROUPING_WINDOW, MailKind
from streams.core.deliveries.attempt import DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, Trigger
from streams.core.deliveries.job import PAYLOAD_WAIT
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.limits import MAX_RETRIES_PER_DELIVERY
from streams.core.times import format_time
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import group_mails
from streams.features.replays.stage import run_jobs
from streams.topics import TEST_DELIVERIES


async def waiting_delivery(api: ApiFixture, number: int, **changes: Any) -> Delivery:
    """Store a waiting delivery of `acme`, first seen `number` seconds after noon."""
    seen = NOON + timedelta(seconds=number)
    made = delivery(
        **{"account_id": api.acme.account_id, "event_id": f"evt_{number}", "first_seen_at": seen, **changes}
    )
    await api.record(made, at=seen)
    return made


async def dead_letter(api: ApiFixture, number: int, reason: DeathReason = DeathReason.EXHAUSTED, **changes: Any) -> str:
    """Store a dead letter; return its id."""
    made = await waiting_delivery(api, number, step=7, attempt=7, **changes)
    dead = DeadLetter(made._replace(step=8), reason, "The endpoint responded with 500: its server failed.")
    await api.record(dead, at=NOON + timedelta(seconds=number))
    return made.id


def known_as(made: Delivery) -> dict[str, Any]:
    """What an attempt at this delivery has of it."""
    return {name: getattr(made, name) for name in ("account_id", "event_id", "webhook_id", "first_seen_at")}


async def ids(api: ApiFixture, path: str, **params: Any) -> list[str]:
    return [row["eventId"] for row in (await api.acme.get(path, **params))["data"]]


async def test_deliveries_are_found_by_each_filter_newest_first(api: ApiFixture) -> None:
    first = await waiting_delivery(api, 1)
    await waiting_delivery(api, 2, webhook_id="wh_lrs", event_type="session.scored")
    await dead_letter(api, 3)
    path = "/v1/deliveries"
    assert await ids(api, path, shortId=first.id[:8]) == ["evt_1"]
    assert await ids(api, path) == ["evt_3", "evt_2", "evt_1"]
    assert await ids(api, path, webhookId="wh_lrs") == ["evt_2"]
    assert await ids(api, path, eventId="evt_1") == ["evt_1"]
    assert await ids(api, path, eventType="session.scored") == ["evt_2"]
    assert await ids(api, path, state="dead") == ["evt_3"]
    assert await ids(api, path, state="waiting") == ["evt_2", "evt_1"]
    assert await ids(api, path, since="2026-04-10T12:00:02Z") == ["evt_3", "evt_2"]
    assert await ids(api, path, until="2026-04-10T14:00:02+02:00") == ["evt_1"]
    assert await ids(api, path, state="delivered") == []
    await waiting_delivery(api, 4, body=b'{"data": {"metadata": {"department": "sales=2"}}}')
    assert await ids(api, path, metadata="department=sales=2") == ["evt_4"]
    assert await ids(api, path, metadata="department=sales") == []
    for query, field in (
        ("state=lost", "state"),
        ("since=noon", "since"),
        ("limit=501", "limit"),
        ("event=%00", "event"),
        ("metadata=department", "metadata"),
    ):
        assert field in errors_of(await api.acme.request("GET", f"{path}?{query}"))


async def test_a_test_waits_for_its_payload(api: ApiFixture) -> None:
    webhook = await api.acme.webhook()
    asked = asyncio.create_task(api.acme.post(f"/v1/webhooks/{webhook['id']}/test", {"type": "session.completed"}))
    async with asyncio.timeout(10):
        while not (sent := api.kafka.topic(TEST_DELIVERIES)):
            await asyncio.sleep(0.01)
    made = AvroCodec().decode(sent[0].value or b"")
    assert isinstance(made, Delivery)
    theirs = {name: getattr(made, name) for name in ("account_id", "event_id", "event_type", "webhook_id", "trigger")}
    await api.record(attempt(**theirs))
    assert "payload" not in await api.acme.get(f"/v1/deliveries/{made.id}")
    await api.record(made)
    seen = await asked
    assert (seen["state"], seen["payload"]["test"], len(seen["attempts"])) == ("delivered", True, 1)


async def test_waiting_tests_are_limited_and_hold_no_connection(api: ApiFixture) -> None:
    webhooks = [(await api.acme.webhook())["id"] for _ in range(5)]
    paths = [f"/v1/webhooks/{name}/test" for name in webhooks]
    waiting = [asyncio.create_task(api.acme.request("POST", path)) for path in paths * 2]
    async with asyncio.timeout(10):
        while len(api.kafka.topic(TEST_DELIVERIES)) < len(waiting):
            await asyncio.sleep(0.01)
    in_use = []
    for _ in range(50):
        in_use.append(api.database.pool_use().in_use)
        await asyncio.sleep(0.01)
    assert max(in_use) <= 1
    assert 0 in in_use
    refused = await api.acme.request("POST", paths[0])
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems#conflict")
    assert "this webhook already has 2 tests in progress" in refused.json()["detail"]
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()


async def test_a_delivery_shows_payload_and_attempts(api: ApiFixture) -> None:
    made = await waiting_delivery(api, 1)
    failed = attempt(
        account_id=made.account_id,
        event_id=made.event_id,
        status=500,
        response_body=b"oops \xff\x00",
        outcome=OutcomeKind.SERVER_ERROR,
        message="The endpoint responded with 500: its server failed.",
        next_step=NextStep.TIER,
        tier="30s",
        ended_at=NOON + timedelta(milliseconds=12),
    )
    await api.record(failed)
    seen = await api.acme.get(f"/v1/deliveries/{made.id}")
    assert (seen["state"], seen["tier"], seen["dueAt"]) == ("waiting", "30s", "2026-04-10T12:00:30Z")
    assert seen["payload"]["data"]["learnerId"] == "learner-42"
    [made_one] = seen["attempts"]
    assert made_one["requestHeaders"]["webhook-id"] == failed.request_headers["webhook-id"]
    assert (made_one["status"], made_one["milliseconds"], made_one["outcome"]) == (500, 12.0, "server_error")
    assert made_one["responseBody"] == "oops \ufffd\0"


async def sent_again(api: ApiFixture, count: int) -> str:
    """Store a delivery with attempts whose responses get longer in JSON and in HTML; return its id."""
    made = await waiting_delivery(api, 1)
    for first in range(0, count, 100):
        numbers = range(first + 1, min(first + 100, count) + 1)
        theirs = {"account_id": made.account_id, "event_id": made.event_id}
        answer = {"response_body": b"\x01'" * 2048, "response_headers": {"x": "'" * 4000}}
        await api.record(*(attempt(**theirs, **answer, number=number) for number in numbers))
    return made.id


async def test_a_delivery_with_many_attempts_stays_small(api: ApiFixture) -> None:
    path = f"/v1/deliveries/{await sent_again(api, 300)}"
    response = await api.acme.request("GET", path)
    assert len(response.content) <= 1_000_000
    seen = response.json()
    numbers = [one["number"] for one in seen["attempts"]]
    assert numbers == list(range(301 - len(numbers), 301))
    assert seen["attemptsTotal"] == 300
    cursor = seen["earlierAttemptsCursor"]
    while cursor:
        page = await api.acme.request("GET", f"{path}/attempts", params={"cursor": cursor})
        assert len(page.content) <= 1_000_000
        numbers = [one["number"] for one in page.json()["data"]][::-1] + numbers
        cursor = page.json().get("nextCursor")
    assert numbers == list(range(1, 301))


async def test_attempts_are_listed_newest_first(api: ApiFixture) -> None:
    path = f"/v1/deliveries/{await sent_again(api, 3)}/attempts"
    page = await api.acme.get(path, limit=2)
    assert [one["number"] for one in page["data"]] == [3, 2]
    page = await api.acme.get(path, limit=2, cursor=page["nextCursor"])
    assert ([one["number"] for one in page["data"]], "nextCursor" in page) == ([1], False)
    assert "limit" in errors_of(await api.acme.request("GET", f"{path}?limit=51"))
    assert "cursor" in errors_of(await api.acme.request("GET", f"{path}?cursor=x"))


@settings(max_examples=15)
@given(st.data())
@pytest.mark.slow
async def test_pages_are_stable_while_deliveries_arrive(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_api(f"sqlite:///{folder}/db.sqlite") as api:
            await _read_pages(api, data)


async def _read_pages(api: ApiFixture, data: st.DataObject) -> None:
    seconds = st.integers(0, 3)
    first = [
        await waiting_delivery(api, 0, event_id=f"old_{n}", first_seen_at=_at(data.draw(seconds))) for n in range(7)
    ]
    seen: list[str] = []
    cursor, arrived = None, 0
    while True:
        limit = data.draw(st.integers(1, 4))
        page = await api.acme.get("/v1/deliveries", limit=limit, **({"cursor": cursor} if cursor else {}))
        seen += [row["id"] for row in page["data"]]
        if (cursor := page.get("nextCursor")) is None:
            break
        for _ in range(data.draw(st.integers(0, 2))):
            arrived += 1
            await waiting_delivery(api, 0, event_id=f"new_{arrived}", first_seen_at=_at(data.draw(seconds)))
    assert len(seen) == len(set(seen))
    assert {made.id for made in first} <= set(seen)


def _at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


# -- replays --------------------------------------------------------------------------------------------------


async def test_a_delivery_is_replayed_unless_it_is_held(api: ApiFixture) -> None:
    webhook = await api.acme.webhook()
    dead = await dead_letter(api, 1, webhook_id=webhook["id"])
    response = await api.acme.request("POST", f"/v1/deliveries/{dead}/retry")
    again = response.json()
    assert (response.status_code, again["state"], again["reason"], again["generation"]) == (202, "held", "replay", 2)
    refused = await api.acme.request("POST", f"/v1/deliveries/{dead}/retry")
    assert "is sent without a replay" in errors_of(refused)["delivery"]
    often = await dead_letter(api, 3, webhook_id=webhook["id"], generation=MAX_RETRIES_PER_DELIVERY + 1)
    refused = await api.acme.request("POST", f"/v1/deliveries/{often}/retry")
    assert "was sent again 100 times, the limit: repair the endpoint" in errors_of(refused)["delivery"]
    orphan = await dead_letter(api, 2, webhook_id="wh_gone")
    assert "deleted" in errors_of(await api.acme.request("POST", f"/v1/deliveries/{orphan}/retry"))["delivery"]


async def test_dead_letters_are_filtered_by_reason(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    dead = [await dead_letter(api, n, webhook_id=webhook) for n in range(3)]
    await dead_letter(api, 3, DeathReason.GONE, webhook_id=webhook)
    assert await ids(api, "/v1/dead-letters") == ["evt_3", "evt_2", "evt_1", "evt_0"]
    assert await ids(api, "/v1/dead-letters", reason="gone") == ["evt_3"]
    retried = await api.acme.post("/v1/dead-letters/retry", {"ids": [dead[0], "unknown"]})
    assert retried == {"ids": [dead[0]], "unknown": ["unknown"]}
    discarded = await api.acme.post("/v1/dead-letters/discard", {"ids": [dead[1], dead[0]]})
    assert discarded == {"ids": [dead[1]], "unknown": []}
    assert await ids(api, "/v1/dead-letters") == ["evt_3", "evt_2"]
    for body in ({}, {"ids": ["a"], "filter": {}}):
        assert "either" in errors_of(await api.acme.request("POST", "/v1/dead-letters/retry", body))["ids"]


async def test_a_receiver_compares_what_it_has_with_the_summary(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    sent = [await waiting_delivery(api, n, webhook_id=webhook) for n in (1, 2)]
    await waiting_delivery(api, 3, webhook_id=webhook, body=b'{"data": {"sequence": 7}}')
    await waiting_delivery(api, 4, webhook_id="wh_other")
    await api.record(attempt(**known_as(sent[0])), attempt(**known_as(sent[1]), trigger=Trigger.TEST))
    path = f"/v1/webhooks/{webhook}/deliveries/summary"
    newest, oldest = (await api.acme.get(path))["data"]
    assert (newest["eventId"], newest["sequence"], newest["state"]) == ("evt_3", 7, "waiting")
    assert oldest == {
        "id": sent[0].id,
        "eventId": "evt_1",
        "eventType": "session.completed",
        "state": "delivered",
        "target": "primary",
        "attemptCount": 1,
        "firstSeenAt": "2026-04-10T12:00:01Z",
        "changedAt": oldest["changedAt"],
    }
    first = await api.acme.get(path, limit=1)
    assert (await api.acme.get(path, cursor=first["nextCursor"]))["data"] == [oldest]
    assert await ids(api, path, since="2026-04-10T12:00:03Z") == ["evt_3"]
    assert await ids(api, path, until="2026-04-10T12:00:03Z") == ["evt_1"]
    assert (await api.globex.request("GET", path)).status_code == 404
    assert "since" in errors_of(await api.acme.request("GET", f"{path}?since=noon"))


async def test_some_deliveries_are_sent_again_whatever_their_state(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    delivered, waiting = [await waiting_delivery(api, n, webhook_id=webhook) for n in (1, 2)]
    await api.record(attempt(**known_as(delivered)))
    orphan, dead = await dead_letter(api, 3, webhook_id="wh_gone"), await dead_letter(api, 4, webhook_id=webhook)
    asked = {"ids": [delivered.id, waiting.id, orphan, dead, "unknown"]}
    assert await api.globex.post("/v1/deliveries/retry", asked) == {"ids": [], "unknown": asked["ids"]}
    retried = await api.acme.post("/v1/deliveries/retry", asked)
    assert (set(retried["ids"]), retried["unknown"]) == ({delivered.id, waiting.id, dead}, ["unknown"])
    [entry, *_] = (await api.operator.get("/v1/audit", action="deliveries.retried"))["data"]
    assert entry["accountId"] == api.acme.account_id
    assert "ids" in errors_of(await api.acme.request("POST", "/v1/deliveries/retry", {"ids": []}))


async def test_a_job_acts_on_dead_letters_from_before_its_start(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    for n in range(3):
        await dead_letter(api, n, webhook_id=webhook)
    await dead_letter(api, 3, webhook_id="wh_gone")
    api.clock.advance(60)
    response = await api.acme.request("POST", "/v1/dead-letters/retry", {"filter": {"eventType": "session.completed"}})
    job = response.json()
    assert (response.status_code, job["total"], job["done"]) == (202, 4, 0)
    await dead_letter(api, 200, webhook_id=webhook)
    await finish(api, job["id"])
    done = await api.acme.get(f"/v1/jobs/{job['id']}")
    assert (done["done"], done["failed"], "finishedAt" in done) == (3, 1, True)
    assert await ids(api, "/v1/dead-letters") == ["evt_200", "evt_3"]
    rest = await api.acme.post("/v1/dead-letters/discard", {"filter": {}})
    await finish(api, rest["id"])
    assert await ids(api, "/v1/dead-letters") == ["evt_200"]


async def test_dead_letters_are_counted_before_a_job_starts(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    for number, webhook_id in enumerate((webhook, webhook, "wh_gone")):
        await dead_letter(api, number, webhook_id=webhook_id)
    for action in ("retry", "discard"):
        path = f"/v1/dead-letters/{action}"
        now = {"countedAt": format_time(api.clock.now())}
        assert await api.acme.post(path, {"filter": {}, "countOnly": True}) == {"count": 3, "webhooks": 2, **now}
        one = {"filter": {"webhookId": "wh_gone"}, "countOnly": True}
        assert await api.acme.post(path, one) == {"count": 1, "webhooks": 1, **now}
        assert await api.globex.post(path, {"filter": {}, "countOnly": True}) == {"count": 0, "webhooks": 0, **now}
        refused = await api.acme.request("POST", path, {"ids": ["a"], "countOnly": True})
        assert "either" in errors_of(refused)["ids"]
    assert await api.jobs.list_unfinished("") == []


async def test_a_job_leaves_out_what_changed_after_the_count(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    await dead_letter(api, 0, webhook_id=webhook)
    counted = await api.acme.post("/v1/dead-letters/discard", {"filter": {}, "countOnly": True})
    api.clock.advance(60)
    await dead_letter(api, 60, webhook_id=webhook)
    job = await api.acme.post("/v1/dead-letters/discard", {"filter": {"changedUntil": counted["countedAt"]}})
    assert job["total"] == 1
    await finish(api, job["id"])
    assert await ids(api, "/v1/dead-letters") == ["evt_60"]


async def test_waiting_retries_are_sent_now(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    waiting = await waiting_delivery(api, 1, webhook_id=webhook)
    await waiting_delivery(api, 2, webhook_id=webhook)
    fields = {"account_id": waiting.account_id, "webhook_id": webhook, "event_id": "evt_1", "first_seen_at": NOON}
    await api.record(attempt(**fields, outcome=OutcomeKind.SERVER_ERROR, next_step=NextStep.TIER, tier="30s"))
    api.clock.advance(2)
    job = await api.acme.post(f"/v1/webhooks/{webhook}/retry-waiting")
    assert job["total"] == 1
    await finish(api, job["id"])
    assert await ids(api, "/v1/deliveries", state="held") == ["evt_1"]


async def finish(api: ApiFixture, job_id: str) -> None:
    """Run maintenance until the job is finished."""
    api.clock.advance(PAYLOAD_WAIT.total_seconds())
    running = asyncio.create_task(run_jobs(api.jobs, api.backfill, api.telemetry, postponed_work(api.telemetry)))
    async with asyncio.timeout(10):
        while (await api.jobs.find(job_id)).finished_at is None:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# -- health and statistics-------------------------------------------------------------------------------------


async def test_health_shows_the_failure_streak_and_the_pause(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    path = f"/v1/webhooks/{webhook}/health"
    assert await api.acme.get(path) == {"status": "active", "consecutiveFailures": 0}
    fine = attempt(account_id=api.acme.account_id, webhook_id=webhook, event_id="evt_0")
    await api.record(fine)
    for number in range(1, 6):
        await api.record(failure(api, webhook, number))
    seen = await api.acme.get(path)
    assert (seen["status"], seen["pauseReason"], seen["consecutiveFailures"]) == ("paused", "failures", 5)
    assert (seen["failingSince"], seen["lastStatus"]) == ("2026-04-10T12:00:01Z", 500)
    assert seen["lastFailure"] == "The endpoint responded with 500: its server failed."
    assert seen["lastDeliveredAt"] == "2026-04-10T12:00:00Z"
    [mail] = (await api.acme.get("/v1/notifications"))["data"]
    assert mail["subject"] == "Webhook paused: https://crm.example.com/hooks"
    assert f"https://hooks.example.com/webhooks/{webhook}" in mail["text"]
    assert (mail["status"], mail["tries"], mail["dueAt"]) == ("pending", 0, "2026-04-10T12:01:00Z")


async def test_an_unsent_mail_says_why(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    for number in range(1, 6):
        await api.record(failure(api, webhook, number))
    mails = SqlMails(api.database, OutgoingEventWriter(AvroCodec()))
    owed = await mails.next_due(MailKind.PAUSED, "", api.clock.now() + PAUSE_GROUPING_WINDOW)
    assert owed is not None
    await mails.settle([replace(one, due_at=None, problem="No mail server is configured.") for one in owed.mails])
    [mail] = (await api.acme.get("/v1/notifications"))["data"]
    assert (mail["status"], mail["reason"]) == ("not_sent", "No mail server is configured.")
    assert mail.keys().isdisjoint({"sentAt", "dueAt"})


async def test_pauses_in_one_mail_say_so(api: ApiFixture) -> None:
    for name in ("CRM", "Billing"):
        webhook = (await api.acme.webhook(description=name))["id"]
        for number in range(1, 6):
            await api.record(failure(api, webhook, number))
    mails = SqlMails(api.database, OutgoingEventWriter(AvroCodec()))
    owed = await mails.next_due(MailKind.PAUSED, "", api.clock.now() + PAUSE_GROUPING_WINDOW)
    assert owed is not None
    await mails.settle([replace(one, due_at=None, sent_at=NOON) for one in group_mails(owed.mails)])
    listed = (await api.acme.get("/v1/notifications"))["data"]
    [first] = [mail for mail in listed if "sentWith" not in mail]
    [other] = [mail for mail in listed if mail is not first]
    assert first["subject"][:18] == "2 webhooks paused:"
    assert all(name in first["text"] for name in ("CRM", "Billing", "https://hooks.example.com/webhooks"))
    assert (other["sentWith"], other["status"]) == (first["id"], "sent")
    assert f"Sent in one mail with others of the same minute: {first['id']}." in other["text"]


async def test_stats_count_attempts_by_hour_and_outcome(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    fine = attempt(account_id=api.acme.account_id, webhook_id=webhook, ended_at=NOON + timedelta(milliseconds=20))
    await api.record(fine, failure(api, webhook, 1), failure(api, webhook, 2))
    await dead_letter(api, 3, webhook_id=webhook)
    seen = await api.acme.get(f"/v1/webhooks/{webhook}/stats", hours=2)
    assert seen["since"] == "2026-04-10T11:00:00Z"
    assert [(hour["outcome"], hour["attempts"], hour["slowestMilliseconds"]) for hour in seen["hours"]] == [
        ("delivered", 1, 20.0),
        ("server_error", 2, 5.0),
    ]
    assert {"state": "dead", "reason": "exhausted", "count": 1} in seen["unfinished"]
    assert "hours" in errors_of(await api.acme.request("GET", f"/v1/webhooks/{webhook}/stats?hours=0"))


def failure(api: ApiFixture, webhook: str, number: int) -> Any:
    start = NOON + timedelta(seconds=number)
    return attempt(
        account_id=api.acme.account_id,
        webhook_id=webhook,
        event_id=f"evt_{number}",
        started_at=start,
        ended_at=start + timedelta(milliseconds=5),
        status=500,
        outcome=OutcomeKind.SERVER_ERROR,
        message="The endpoint responded with 500: its server failed.",
        next_step=NextStep.TIER,
        tier="30s",
    )
