"""What waits in the whole deployment is counted by status, tier and reason, on each database."""

from datetime import timedelta

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore
from streams.adapters.sql.deliveries.backlog import SqlBacklogs
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.backlog import Backlog, WaitingCount
from streams.core.deliveries.delivery import HoldReason
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind

LATER = NOON + timedelta(minutes=5)


async def test_an_empty_deployment_has_webhooks_only(database: SqlStore) -> None:
    assert await SqlBacklogs(database.database).read() == Backlog({"active": 1}, {}, {}, {})


async def test_deliveries_are_counted_by_tier_and_reason(database: SqlStore) -> None:
    retried = attempt(
        event_id="evt_0", outcome=OutcomeKind.TIMEOUT, status=None, next_step=NextStep.TIER, tier="30s", message="slow"
    )
    held = [delivery(event_id=f"evt_{number}", hold_reason=HoldReason.BUSY, step=2) for number in (1, 2)]
    values = [
        RecordedValue(delivery(event_id="evt_0"), NOON),
        RecordedValue(retried, NOON),
        RecordedValue(held[0], NOON),
        RecordedValue(held[1], LATER),
        RecordedValue(dead_letter(delivery=delivery(event_id="evt_3", step=7)), LATER),
        RecordedValue(delivery(event_id="evt_4"), NOON),
        RecordedValue(attempt(event_id="evt_5"), NOON),
    ]
    await database.recorder.record(merge_records(values))
    found = await SqlBacklogs(database.database).read()
    assert {tier: waiting.deliveries for tier, waiting in found.retries.items()} == {"30s": 1}
    due_at = found.retries["30s"].since
    assert due_at is not None
    assert timedelta(0) <= due_at - retried.ended_at <= timedelta(seconds=31)
    assert found.held == {"busy": WaitingCount(2, NOON)}
    assert found.dead == {"exhausted": WaitingCount(1, LATER)}
