"""Recorded deliveries are found, newest first."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore, Store
from fakes import FakeClock, FakeEncryption, FakeTelemetry
from streams.adapters.sql.deliveries import delivery_log
from streams.adapters.sql.deliveries.attempts_shown import newest_attempts
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.engine.database import Database
from streams.core.accounts.account import AttemptDetails, DeliveryFilter, DeliverySummary
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery, State, Trigger
from streams.core.deliveries.delivery_state import RecordedValue, StateCount, merge_records
from streams.core.limits import MAX_ATTEMPT_BYTES_SHOWN
from streams.core.page import Page
from streams.core.webhooks.delivery_options import parse_options


async def test_deliveries_are_listed_newest_first_and_by_every_filter(store: Store) -> None:
    entries = [
        RecordedValue(delivery(event_id="evt_1", first_seen_at=NOON), NOON),
        RecordedValue(delivery(event_id="evt_2", first_seen_at=NOON + timedelta(seconds=2), webhook_id="wh_lrs"), NOON),
        RecordedValue(delivery(event_id="evt_3", first_seen_at=NOON + timedelta(seconds=1), account_id="other"), NOON),
        RecordedValue(
            dead_letter(delivery=delivery(event_id="evt_4", first_seen_at=NOON - timedelta(seconds=1))), NOON
        ),
    ]
    await store.recorder.record(merge_records(entries))

    async def listed(**wanted: Any) -> list[str]:
        return [state.event_id for state in (await store.delivery_log.list(DeliveryFilter(**wanted))).rows]

    assert await listed() == ["evt_2", "evt_3", "evt_1", "evt_4"]
    assert await listed(limit=2) == ["evt_2", "evt_3"]
    assert await listed(account_id="other") == ["evt_3"]
    assert await listed(webhook_id="wh_lrs") == ["evt_2"]
    assert await listed(event_id="evt_1") == ["evt_1"]
    assert await listed(short_id=delivery(event_id="evt_1").id[:8]) == ["evt_1"]
    assert await listed(short_id="00000000") == []
    assert await listed(state=State.DEAD) == ["evt_4"]
    assert await listed(account_id="acme", state=State.WAITING) == ["evt_2", "evt_1"]
    assert await listed(account_id="nobody") == []
    assert await store.delivery_log.find("no such delivery") is None
    state_counts = await store.delivery_log.count_states()
    assert set(state_counts["wh_crm"]) == {
        StateCount(State.WAITING, None, None, 2),
        StateCount(State.DEAD, None, "exhausted", 1),
    }
    assert list(state_counts["wh_lrs"]) == [StateCount(State.WAITING, None, None, 1)]


async def test_a_summary_counts_what_matches(store: Store) -> None:
    seconds = {"evt_1": 0, "evt_2": 2, "evt_3": 1}
    known = [delivery(event_id=name, first_seen_at=NOON + timedelta(seconds=at)) for name, at in seconds.items()]
    other = delivery(event_id="evt_4", webhook_id="wh_lrs", event_type="session.scored")
    test = attempt(event_id="evt_test", trigger=Trigger.TEST)
    letters = [dead_letter(delivery=one._replace(step=7)) for one in (known[0], other)]
    values: list[Delivery | Attempt | DeadLetter] = [*known, *letters, test]
    await store.recorder.record(merge_records(RecordedValue(value, NOON) for value in values))

    async def summary(**wanted: Any) -> DeliverySummary:
        return await store.delivery_log.summary(DeliveryFilter(**wanted))

    assert await summary() == DeliverySummary(5, 2, NOON, NOON + timedelta(seconds=2))
    assert await summary(without_tests=True, webhook_id="wh_crm") == DeliverySummary(
        3, 1, NOON, NOON + timedelta(seconds=2)
    )
    assert (await summary(states=(State.DEAD, State.DELIVERED))).count == 3
    assert (await summary(states=(State.DEAD,), event_types=["session.scored"])).count == 1
    assert (await summary(state=State.DEAD)).webhooks == 2
    assert await summary(states=()) == DeliverySummary()
    assert set(await store.delivery_log.find_existing([known[0].id, "unknown"])) == {known[0].id}


async def test_a_delivery_with_only_an_attempt_has_no_body_yet(store: Store) -> None:
    await store.recorder.record(merge_records([RecordedValue(attempt(), NOON)]))
    seen = await store.delivery_log.find(delivery().id)
    assert seen is not None
    assert (seen.delivery_state.state, seen.body, seen.payload) == (State.DELIVERED, None, None)


async def test_an_outcome_is_there_with_its_payload(store: Store) -> None:
    names = [delivery(event_id=f"evt_{number}").id for number in range(4)]
    sent = [RecordedValue(delivery(event_id=f"evt_{number}"), NOON) for number in (1, 3)]
    ended = [RecordedValue(attempt(event_id=f"evt_{number}"), NOON) for number in (2, 3)]
    await store.recorder.record(merge_records([*sent, *ended]))
    assert set(await store.delivery_log.with_outcome(names)) == {names[3]}


async def test_the_sequence_of_an_event_is_in_its_body(store: Store) -> None:
    bodies = {"evt_1": b'{"data": {"sequence": 7}}', "evt_2": b"{}", "evt_3": b'{"data": {"sequence": true}}'}
    bodies |= {f"evt_{number}": b'{"data": {"sequence": 9007199254740991}}' for number in range(4, 120)}
    entries = [RecordedValue(delivery(event_id=name, body=body), NOON) for name, body in bodies.items()]
    entries.append(RecordedValue(delivery(event_id="evt_2", account_id="other", body=bodies["evt_1"]), NOON))
    await store.recorder.record(merge_records(entries))
    sequences = await store.delivery_log.sequences("acme", [*bodies, "unknown"])
    assert sequences == {"evt_1": 7} | {f"evt_{number}": 2**53 - 1 for number in range(4, 120)}
    assert await store.delivery_log.sequences("acme", []) == {}


async def test_the_body_of_a_delivery_is_what_was_sent(store: Store) -> None:
    options = parse_options({"fields": ["sessionId"]})
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, options=options)))
    entries = [RecordedValue(delivery(event_id=f"evt_{number}"), NOON) for number in range(3)]
    sent = attempt(event_id="evt_1", fields=("learnerId",)), attempt(event_id="evt_2")
    await store.recorder.record(merge_records([*entries, *(RecordedValue(one, NOON) for one in sent)]))
    shown = [await store.delivery_log.find(delivery(event_id=f"evt_{number}").id) for number in range(3)]
    data = [json.loads(details.body)["data"].keys() for details in shown if details and details.body]
    assert data == [{"sessionId"}, {"learnerId"}, json.loads(delivery().body)["data"].keys()]
    assert [list(details.attempts[-1].fields or ()) for details in shown[1:] if details] == [["learnerId"], []]


async def test_a_delivery_is_found_with_its_body_and_its_attempts(store: Store) -> None:
    made = [attempt(number=number, generation=generation) for generation, number in ((2, 1), (1, 2), (1, 1))]
    await store.recorder.record(
        merge_records([RecordedValue(delivery(), NOON), *(RecordedValue(attempt, NOON) for attempt in made)])
    )
    seen = await store.delivery_log.find(delivery().id)
    assert seen is not None
    assert seen.body == delivery().body
    assert [(attempt.generation, attempt.number) for attempt in seen.attempts] == [(1, 1), (1, 2), (2, 1)]
    first = seen.attempts[0]
    assert (first.status, first.outcome, first.message) == (200, "delivered", "The endpoint responded with 200.")
    assert (first.request_headers, first.response_headers) == (attempt().request_headers, attempt().response_headers)


async def record_attempts(store: Store, count: int, **changes: Any) -> None:
    """Record this many attempts of one delivery, sent again after each third."""
    places = [(1 + at // 3, 1 + at % 3) for at in range(count)]
    made = [attempt(generation=generation, number=number, **changes) for generation, number in places]
    await store.recorder.record(merge_records(RecordedValue(one, NOON) for one in made))


async def test_the_newest_attempts_are_shown_oldest_first(store: Store) -> None:
    await record_attempts(store, 112)
    seen = await store.delivery_log.find(delivery().id)
    assert seen is not None
    assert seen.attempts_total == 112
    shown = [(one.generation, one.number) for one in seen.attempts]
    assert shown == [(1 + at // 3, 1 + at % 3) for at in range(62, 112)]
    assert seen.earlier_cursor is not None
    earlier = await store.delivery_log.attempts(delivery().id, seen.earlier_cursor, 50)
    first = await store.delivery_log.attempts(delivery().id, earlier.next_cursor, 50)
    places = [(one.generation, one.number) for one in [*earlier.rows, *first.rows]]
    assert places == [(1 + at // 3, 1 + at % 3) for at in reversed(range(62))]
    assert first.next_cursor is None


async def test_attempts_of_one_page_stay_within_their_bytes(store: Store) -> None:
    await record_attempts(store, 40, response_body=b"x" * 4096, response_headers={"x": "y" * 4000})
    page = await store.delivery_log.attempts(delivery().id, None, 50)
    found = list(page.rows)
    assert len(found) == MAX_ATTEMPT_BYTES_SHOWN // 8500
    while page.next_cursor is not None:
        page = await store.delivery_log.attempts(delivery().id, page.next_cursor, 50)
        found += page.rows
    assert [(one.generation, one.number) for one in found] == [(1 + at // 3, 1 + at % 3) for at in reversed(range(40))]


async def test_a_cursor_of_another_delivery_leads_nowhere(store: Store) -> None:
    await record_attempts(store, 3)
    await record_attempts(store, 3, event_id="evt_other")
    page = await store.delivery_log.attempts(delivery().id, None, 2)
    assert page.next_cursor is not None
    assert (await store.delivery_log.attempts(delivery(event_id="evt_other").id, page.next_cursor, 50)).rows == []
    assert len((await store.delivery_log.attempts(delivery().id, page.next_cursor, 50)).rows) == 1


async def test_an_attempt_that_comes_meanwhile_is_counted(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Database(database.database.url)
    recorder = SqlRecorder(other, FakeClock(), FakeTelemetry(), FakeEncryption())

    async def read_after_another(*arguments: Any) -> Page[AttemptDetails]:
        await recorder.record(merge_records([RecordedValue(attempt(number=2), NOON)]))
        return await newest_attempts(*arguments)

    await recorder.record(merge_records([RecordedValue(delivery(), NOON), RecordedValue(attempt(), NOON)]))
    monkeypatch.setattr(delivery_log, "newest_attempts", read_after_another)
    details = await database.delivery_log.find(delivery().id)
    await other.close()
    assert details is not None
    assert details.attempts_total >= len(details.attempts)
