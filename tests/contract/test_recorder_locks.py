"""Two recorders with the same deliveries do not deadlock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest_asyncio
from sqlalchemy import select, text

from builders import NOON, attempt, delivery, webhook
from contract.stores import SqlStore, sql_store
from streams.adapters.sql.engine.database import database_url
from streams.adapters.sql.tables.deliveries import deliveries
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import Delivery, State
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.webhooks.webhook import Registration

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest_asyncio.fixture
async def store(postgresql: str) -> AsyncIterator[SqlStore]:
    async with sql_store(database_url(postgresql), connections=4) as store:
        await store.webhooks.add(Registration(webhook(id="wh_lms"), NOON))
        yield store


async def test_two_recorders_of_one_delivery_do_not_deadlock(store: SqlStore) -> None:
    crm, lms = delivery(webhook_id="wh_crm"), delivery(webhook_id="wh_lms", event_id="evt_another")
    busy = delivery(event_id=before(crm))
    await store.recorder.record(batch(busy))
    async with asyncio.TaskGroup() as recording, store.database.transaction() as other:
        await other.execute(select(deliveries).where(deliveries.c.id == busy.id).with_for_update())
        # This recorder has written lms and waits, before it writes crm.
        recording.create_task(store.recorder.record(batch(lms, attempt_of(busy), attempt_of(crm))))
        await waiting(store, 1)
        recording.create_task(store.recorder.record(batch(crm, attempt_of(lms))))
        await waiting(store, 2)
    for made in (busy, crm, lms):
        seen = await store.delivery_log.find(made.id)
        assert seen is not None
        assert seen.delivery_state.state is State.DELIVERED


def batch(*values: Delivery | Attempt) -> Batch:
    return merge_records([RecordedValue(value, NOON) for value in values])


def attempt_of(made: Delivery) -> Attempt:
    return attempt(event_id=made.event_id, webhook_id=made.webhook_id)


def before(made: Delivery) -> str:
    """An event whose delivery to this webhook has the lower id."""
    events: Sequence[str] = [uuid4().hex for _ in range(100)]
    return min(events, key=lambda event: str(delivery(event_id=event, webhook_id=made.webhook_id).id))


async def waiting(store: SqlStore, count: int) -> None:
    """Wait until this many statements wait for a lock."""
    async with asyncio.timeout(10):
        while True:
            async with store.database.read_transaction() as connection:
                if await connection.scalar(WAITING) == count:
                    return
            await asyncio.sleep(0.01)
