"""Every filter of the API uses an index."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text, update

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore
from fakes.delivery import FakeEncryption, FakeTelemetry
from streams.adapters.sql.tables.course_sessions import course_sessions, player_states
from streams.adapters.sql.tables.deliveries import webhooks
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import HoldReason, State
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.page import Cursor
from streams.features.course_sessions.player_states import SqlPlayerStates
from streams.features.deliveries.search_storage import SqlDeliverySearch

FILTERS: dict[str, dict[str, Any]] = {
    "ix_deliveries_account_id_first_seen_at_id": {},
    "ix_deliveries_webhook_id_first_seen_at_id": {"webhook_id": "wh_7"},
    "ix_deliveries_account_id_event_id": {"event_id": "evt_7"},
    "ix_deliveries_account_id_event_type_first_seen_at_id": {"event_type": "session.scored"},
    r"ix_deliveries_(account|webhook)_state": {"state": State.DEAD},
    "ix_deliveries_webhook_state": {"state": State.DEAD, "webhook_id": "wh_7"},
}


def entry(number: int) -> RecordedValue:
    """Of the deliveries, one in fifty is dead, one in fifty belongs to each webhook, one in a hundred is scored."""
    waiting = delivery(
        event_id=f"evt_{number}",
        webhook_id=f"wh_{number % 50}",
        first_seen_at=NOON + timedelta(seconds=number),
        event_type="session.completed" if number % 100 else "session.scored",
    )
    done = attempt(event_id=waiting.event_id, webhook_id=waiting.webhook_id, event_type=waiting.event_type)
    return RecordedValue(
        done._replace(first_seen_at=waiting.first_seen_at) if number % 49 else dead_letter(delivery=waiting), NOON
    )


@contextmanager
def plans(store: SqlStore, part: str = "ORDER BY deliveries.first_seen_at") -> Iterator[list[str]]:
    """The query plans of queries with this part, within the same transaction."""
    found: list[str] = []
    explained = "EXPLAIN QUERY PLAN" if store.database.is_sqlite else "EXPLAIN"

    def explain(connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if part in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"{explained} {statement}", parameters)
            found.append("\n".join(str(row) for row in rows))

    engines = {engine.sync_engine for engine in (store.database._engine, store.database._read_engine)}
    for engine in engines:
        event.listen(engine, "after_cursor_execute", explain)
    yield found
    for engine in engines:
        event.remove(engine, "after_cursor_execute", explain)


async def test_each_filter_has_its_index(database: SqlStore) -> None:
    await database.recorder.record(merge_records([entry(number) for number in range(5000)]))
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    after = Cursor(NOON + timedelta(days=1), "zzz")
    for index, wanted in FILTERS.items():
        with plans(database) as found:
            await database.delivery_log.list(DeliveryFilter(account_id="acme", after=after, limit=50, **wanted))
        (plan,) = found
        assert re.search(index, plan), plan
    # An event of any account is found without reading all.
    with plans(database) as found:
        page = await database.delivery_log.list(DeliveryFilter(event_id="evt_7"))
    (plan,) = found
    assert [row.event_id for row in page.rows] == ["evt_7"]
    assert "ix_deliveries_account_id_event_id" in plan, plan


async def test_a_players_state_is_found_among_many_sessions(database: SqlStore) -> None:
    """All guests of a platform may be one learner."""
    states = SqlPlayerStates(database.database, FakeEncryption(), FakeTelemetry())
    columns = {"account_id": "acme", "package_id": "pkg_1", "learner_id": "guest", "launched_at": NOON}
    row = {**columns, "expires_at": NOON, "progress": "{}", "events": "[]", "stored_state": "nothing"}
    async with database.database.transaction() as connection:
        await connection.execute(insert(course_sessions), [{**row, "id": f"s-{number}"} for number in range(2000)])
        await connection.execute(
            insert(player_states),
            {
                "account_id": "acme",
                "session_id": "s-7",
                "committed_at": NOON,
                "encrypted_state": "encrypted:x",
                "state_bytes": 11,
            },
        )
        is_its = course_sessions.c.id == "s-7"
        await connection.execute(update(course_sessions).where(is_its).values(stored_state="stored"))
    with plans(database, "encrypted_state") as found:
        newest = await states.newest("acme", "guest", "pkg_1")
    assert newest is not None
    assert newest[0].id == "s-7"
    (plan,) = found
    assert "ix_course_sessions_states" in plan, plan


async def test_a_portion_is_found_by_walking_an_index(database: SqlStore) -> None:
    if database.database.is_sqlite:
        pytest.skip("SQLite walks an index wherever there is one")
    waiting = [
        delivery(event_id=f"evt_{number}", first_seen_at=NOON + timedelta(seconds=number)) for number in range(900)
    ]
    held = [one.to_held(HoldReason.BUSY, None, is_attempted=False) for one in waiting[:300]]
    dead = [dead_letter(delivery=one) for one in waiting[300:]]
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    await database.recorder.record(merge_records(RecordedValue(one, NOON) for one in held))
    await database.recorder.record(merge_records(RecordedValue(one, NOON) for one in dead))
    mine = DeliveryFilter(account_id="acme", webhook_id="wh_crm", limit=10)
    with plans(database) as found:
        await database.held.oldest("wh_crm", 10)
        await database.replays.replay(replace(mine, state=State.DEAD))
        await database.replays.discard(replace(mine, state=State.DEAD))
        await database.replays.replay(replace(mine, states=(State.DELIVERED, State.DEAD), without_tests=True))
        for wanted in (
            mine,
            replace(mine, state=State.DEAD),
            replace(mine, event_type="session.completed"),
        ):
            await database.delivery_log.list(wanted)
    assert len(found) == 7
    for plan in found:
        assert not re.search(r"(?<!Incremental )Sort  ", plan), plan


async def test_a_retry_of_any_filter_is_found_by_walking_an_index(database: SqlStore) -> None:
    """Neither a portion of a job nor a preview collects and sorts all matches."""
    states = (State.DELIVERED, State.DEAD, State.DISCARDED)
    mine = DeliveryFilter("acme", limit=10, changed_until=NOON, states=states, without_tests=True)
    data = {"sessionId": "s1", "packageId": "pkg_1", "metadata": {"department": "sales"}}
    values: list[RecordedValue] = []
    for number in range(1000):
        seen = NOON + timedelta(seconds=number)
        made = delivery(event_id=f"evt_{number}", first_seen_at=seen, body=json.dumps({"data": data}).encode())
        failed = attempt(event_id=made.event_id, outcome=OutcomeKind.TIMEOUT, first_seen_at=seen)
        values += [RecordedValue(one, NOON) for one in (made, failed)]
    await database.recorder.record(merge_records(values))
    await database.recorder.record(merge_records([entry(number) for number in range(1000, 4000)]))
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    search = SqlDeliverySearch(database.database)
    indexes: dict[str, dict[str, Any]] = {
        "ix_deliveries_account_id_first_seen_at_id": {},
        "ix_deliveries_webhook_id_first_seen_at_id": {"webhook_id": "wh_7"},
        "ix_deliveries_account_id_event_type_first_seen_at_id": {"event_type": "session.scored"},
        "ix_events_package": {"package_id": "pkg_1"},
        "ix_event_metadata_account_id_hash": {"metadata": ("department", "sales")},
        "ix_attempts_failed_account": {"outcome": "timeout"},
    }
    for index, wanted in indexes.items():
        with plans(database, " LIMIT ") as found:
            await database.replays.replay(replace(mine, **wanted))
            await search.summary(replace(mine, **wanted), 100)
        assert len(found) == 2, found
        for plan in found:
            assert index in plan, plan
            if not database.database.is_sqlite:
                assert not re.search(r"(?<!Incremental )Sort  |Seq Scan on (deliveries|events|attempts)", plan), plan


async def test_events_that_are_stored_are_found_by_their_key(database: SqlStore) -> None:
    """Each batch of `record` looks for the events that another webhook's delivery has brought before."""
    made = [delivery(event_id=f"evt_{number}") for number in range(1000)]
    await database.recorder.record(merge_records(RecordedValue(one, NOON) for one in made))
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    with plans(database, "events.hash") as found:
        await database.recorder.record(
            merge_records(RecordedValue(one._replace(webhook_id="wh_7"), NOON) for one in made[:10])
        )
    (plan,) = found
    assert re.search(r"SEARCH events|Index Scan|Bitmap Index Scan", plan), plan


async def test_due_probes_read_no_delivered_rows(database: SqlStore) -> None:
    paused = {"status": "paused", "pause_id": "pause_1", "probe_at": NOON, "paused_at": NOON}
    async with database.database.transaction() as connection:
        await connection.execute(update(webhooks).values(paused))
    with plans(database, "probe_at") as found:
        await database.held.due_probes(NOON)
    assert len(found) == 1
    assert re.search("ix_webhooks_probe_at|SCAN webhooks|Seq Scan on webhooks", found[0])
    for index in ("ix_deliveries_held", "ix_deliveries_under_way"):
        assert index in found[0], found[0]
