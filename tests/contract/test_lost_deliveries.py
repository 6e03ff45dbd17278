"""Deliveries lost with an embedded broker become dead letters."""

from builders import NOON, attempt, delivery
from contract.stores import SqlStore
from streams.adapters.sql.deliveries.lost_deliveries import SqlLostDeliveries
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import DeathReason, HoldReason, State, Trigger
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind


async def test_only_waiting_deliveries_are_ended(database: SqlStore) -> None:
    waiting = delivery(event_id="evt_waiting")
    in_tier = attempt(event_id="evt_tier", next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)
    held = delivery(event_id="evt_held").to_held(HoldReason.PAUSED, "pause_1", is_attempted=False)
    test = delivery(event_id="evt_test", trigger=Trigger.TEST)
    delivered = attempt(event_id="evt_done")
    await database.recorder.record(
        merge_records(RecordedValue(value, NOON) for value in (waiting, in_tier, held, test, delivered))
    )
    database.clock.advance(3600)
    assert await SqlLostDeliveries(database.database, database.clock).end_all() == 3
    found = {one.event_id: one for one in (await database.delivery_log.list(DeliveryFilter())).rows}
    assert {event_id: one.state for event_id, one in found.items()} == {
        "evt_waiting": State.DEAD,
        "evt_tier": State.DEAD,
        "evt_held": State.HELD,
        "evt_test": State.FAILED,
        "evt_done": State.DELIVERED,
    }
    dead = found["evt_tier"]
    assert (dead.reason, dead.tier, dead.due_at) == (DeathReason.BROKER_RESTARTED, None, None)
    assert dead.changed_at == database.clock.now()
    assert await SqlLostDeliveries(database.database, database.clock).end_all() == 0
