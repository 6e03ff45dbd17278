"""The tables keep what the fake keeps, and refused rows."""

import random
from dataclasses import replace

import pytest

from builders import NOON, attempt, delivery, event
from contract.stores import SqlStore, failed, history
from fakes import FakeRecorder
from streams.adapters.sql.deliveries.delivery_log import SqlDeliveryStore
from streams.adapters.sql.tables.accounts import mails
from streams.adapters.sql.tables.deliveries import attempts
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.errors import RowRefused
from streams.core.events.event import render
from streams.features.webhooks.stats_storage import SqlWebhookStats

HISTORY = history("evt_1") + history("evt_2")


async def test_random_batches_leave_the_same_state_as_the_fake(database: SqlStore) -> None:
    rng, fake = random.Random(7), FakeRecorder()
    for _ in range(60):
        batch = merge_records(rng.choices(HISTORY, k=rng.randint(1, 6)))
        await database.recorder.record(batch)
        await fake.record(batch)
        stored = {state.delivery_id: state for state in (await database.delivery_log.list(DeliveryFilter())).rows}
        assert stored == fake.delivery_states
    assert await database.count(attempts) == len(fake.attempts)
    for delivery_id, state in fake.delivery_states.items():
        seen = await database.delivery_log.find(delivery_id)
        assert seen is not None
        assert seen.body == fake.bodies.get((state.account_id, state.event_id), b"")


async def test_a_pause_owes_one_mail_however_often_the_webhook_fails(database: SqlStore) -> None:
    for number in range(1, 8):
        await database.recorder.record(merge_records([failed(number)]))
    assert await database.count(mails) == 1


async def test_a_refused_row_is_not_retried(database: SqlStore) -> None:
    refused: Attempt = attempt(message="a\0b")
    if database.database.is_sqlite:  # SQLite takes a NUL in a text
        await database.recorder.record(merge_records([RecordedValue(refused, NOON)]))
        assert await database.count(attempts) == 1
        return
    with pytest.raises(RowRefused, match="unsupported Unicode"):
        await database.recorder.record(merge_records([RecordedValue(refused, NOON)]))
    assert await database.count(attempts) == 0


async def test_an_attempt_that_comes_twice_counts_once(database: SqlStore) -> None:
    made = attempt(status=200)
    await database.recorder.record(merge_records([RecordedValue(made, NOON), RecordedValue(made, NOON)]))
    await database.recorder.record(merge_records([RecordedValue(made, NOON)]))
    stats = SqlWebhookStats(database.database)
    [hour] = (await stats.stats(made.webhook_id, made.started_at.replace(minute=0, second=0, microsecond=0))).hours
    [times] = await stats.response_times(made.webhook_id, hour.hour)
    assert (hour.attempts, times.attempts) == (1, 1)


async def test_an_event_with_a_nul_in_its_learner_is_stored(database: SqlStore) -> None:
    # No door takes such an event. A record may have it all the same.
    body = render(replace(event(), data={**event().data, "learnerId": "a\0b"}))
    owed = delivery(body=body)
    await database.recorder.record(merge_records([RecordedValue(owed, NOON)]))
    assert (found := await SqlDeliveryStore(database.database).find(owed.id)) is not None
    assert found.body == body
