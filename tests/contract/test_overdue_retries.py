"""A retry whose record is gone is sent again, if it is overdue for long."""

from datetime import datetime, timedelta

from sqlalchemy import delete

from builders import NOON, attempt, delivery
from contract.stores import SqlStore, publish_all
from streams.adapters.sql.deliveries.overdue_retries import NO_PAYLOAD_MESSAGE, SqlOverdueRetries
from streams.adapters.sql.tables.deliveries import events
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind


async def failed(store: SqlStore, event_id: str, tier: str = "30s", at: datetime = NOON) -> None:
    """Record a delivery whose first attempt failed at this time, and that waits in a tier."""
    made = attempt(event_id=event_id, next_step=NextStep.TIER, tier=tier, outcome=OutcomeKind.TIMEOUT)
    await store.recorder.record(
        merge_records([RecordedValue(delivery(event_id=event_id), at), RecordedValue(made, at)])
    )


async def send_again(store: SqlStore, due_before: datetime, limit: int = 100) -> int:
    return await SqlOverdueRetries(store.database, store.clock).resend(due_before, limit)


async def states(store: SqlStore) -> dict[str, DeliveryState]:
    return {one.event_id: one for one in (await store.delivery_log.list(DeliveryFilter())).rows}


async def test_an_overdue_retry_is_sent_again_from_the_start(database: SqlStore) -> None:
    await failed(database, "evt_old")
    await failed(database, "evt_new", at=NOON + timedelta(hours=3))
    assert await send_again(database, NOON + timedelta(hours=1)) == 1
    found = await states(database)
    assert found["evt_new"].state is State.WAITING
    old = found["evt_old"]
    assert (old.state, old.generation, old.step, old.attempts, old.tier, old.due_at) == (
        State.HELD,
        2,
        1,
        0,
        None,
        None,
    )
    await publish_all(database)
    [held] = await database.held.oldest("wh_crm", 10)
    assert (held.delivery.event_id, held.delivery.generation, held.delivery.attempt) == ("evt_old", 2, 1)
    assert await send_again(database, NOON + timedelta(hours=1)) == 0


async def test_at_most_the_limit_is_sent_again_at_once(database: SqlStore) -> None:
    for number in range(3):
        await failed(database, f"evt_{number}")
    due_before = NOON + timedelta(hours=1)
    assert [await send_again(database, due_before, limit=2) for _ in range(3)] == [2, 1, 0]


async def test_first_attempts_are_not_sent_again(database: SqlStore) -> None:
    """`deliver` does not look whether a replay took the place of a first attempt: the customer would get it twice."""
    await database.recorder.record(merge_records([RecordedValue(delivery(), NOON)]))
    assert await send_again(database, NOON + timedelta(days=1)) == 0


async def test_a_retry_without_a_payload_is_a_dead_letter(database: SqlStore) -> None:
    await failed(database, "evt_old")
    async with database.database.transaction() as connection:
        await connection.execute(delete(events))
    assert await send_again(database, NOON + timedelta(hours=1)) == 1
    dead = (await states(database))["evt_old"]
    assert (dead.state, dead.reason, dead.message) == (State.DEAD, DeathReason.EXPIRED, NO_PAYLOAD_MESSAGE)


async def test_waiting_retries_are_counted_by_tier(database: SqlStore) -> None:
    await failed(database, "evt_1")
    await failed(database, "evt_2", tier="2m")
    await failed(database, "evt_3", tier="2m")
    assert await SqlOverdueRetries(database.database, database.clock).count_by_tier() == {"30s": 1, "2m": 2}
