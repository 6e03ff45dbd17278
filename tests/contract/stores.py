"""A database behind its ports, as a fake or real, and values to record in it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from sqlalchemy import func, select, text
from sqlalchemy.engine import URL

from builders import NOON, attempt, dead_letter, delivery, webhook
from fakes import (
    FakeClock,
    FakeDeliveryStore,
    FakeEncryption,
    FakeHeld,
    FakeJobs,
    FakeLease,
    FakeOutbox,
    FakeRecorder,
    FakeReplays,
    FakeTelemetry,
)
from real.migrated import make_tables
from real.pgbouncer import PgBouncer
from real.postgres import ROLE
from streams.adapters.replay_lookup import replay_lookup
from streams.adapters.sql.deliveries.delivery_log import SqlDeliveryStore
from streams.adapters.sql.deliveries.held import SqlHeldDeliveries
from streams.adapters.sql.deliveries.jobs import SqlJobs
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.deliveries.replays import SqlReplays
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.pooler import store_session_settings
from streams.adapters.sql.erasures.erasure_outbox import SqlErasureOutbox
from streams.adapters.sql.webhooks.outbox import SqlLease, SqlOutbox
from streams.core.accounts.access import ApiKey
from streams.core.accounts.account import Account
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason
from streams.core.deliveries.delivery_state import Batch, RecordedValue
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook import Registration
from streams.features.learners.storage import SqlErasures
from streams.features.shared.accounts import SqlAccounts
from streams.features.webhooks.storage import SqlWebhooks
from streams.outage import Outages
from streams.ports.delivery import ReplayLookup
from streams.ports.runtime import ProcessLease
from streams.ports.storage import DeliveryStore, HeldDeliveries, Jobs, Recorder, Replays
from streams.ports.webhooks import Outbox, PublicationStatus, Webhooks


@dataclass
class Store:
    """The ports of a database. `lease` returns the lease of a holder."""

    clock: FakeClock
    recorder: Recorder
    webhooks: Webhooks
    outbox: Outbox
    propagation: PublicationStatus
    delivery_log: DeliveryStore
    held: HeldDeliveries
    replays: Replays
    jobs: Jobs
    replay_lookup: ReplayLookup
    lease: Callable[[str], ProcessLease]


@dataclass
class SqlStore(Store):
    """The ports of a real database, with its tables."""

    database: Database
    erasures: SqlErasures
    erasure_outbox: SqlErasureOutbox

    async def count(self, table: object) -> int:
        async with self.database.read_transaction() as connection:
            return int(await connection.scalar(select(func.count()).select_from(table)) or 0)  # type: ignore[arg-type]

    async def waiting(self) -> bool:
        """Whether a transaction of this PostgreSQL database waits for another."""
        is_ours = "datname = current_database() AND wait_event_type = 'Lock'"
        query = text(f"SELECT count(*) FROM pg_stat_activity WHERE {is_ours}")
        async with self.database.read_transaction() as connection:
            return bool(await connection.scalar(query))


def fake_store(*, away: bool = False) -> Store:
    """The fakes, which refuse the same rows as the tables."""

    def lacks_words(batch: Batch) -> bool:
        return any(made.message is None for made in batch.attempts)

    clock, outbox = FakeClock(), FakeOutbox()
    outbox.put(webhook())
    outbox.away = away
    recorder = FakeRecorder(outbox, refuses=lacks_words, away=away, clock=clock)
    lease = FakeLease(clock=clock, away=away)
    return Store(
        clock=clock,
        recorder=recorder,
        webhooks=outbox,
        outbox=outbox,
        propagation=outbox,
        delivery_log=FakeDeliveryStore(recorder),
        held=FakeHeld(recorder),
        replays=FakeReplays(recorder, clock),
        jobs=FakeJobs(FakeReplays(recorder, clock)),
        replay_lookup=recorder,
        lease=lease.rival,
    )


@asynccontextmanager
async def sql_store(url: URL, connections: int = 1, pooler: PgBouncer | None = None) -> AsyncIterator[SqlStore]:
    """A migrated database with one account and one webhook of it.

    With one connection, a second one that is taken while the first is held would never come.
    """
    make_tables(url)
    if url.get_backend_name() == "postgresql":
        url = url.set(username=ROLE)
    if pooler:
        store_session_settings(url)
        url = pooler.before(url)
    async with unmigrated(url, connections, behind_pooler=pooler is not None) as store:
        account = Account("acme", "Acme", ("ops@acme.example",), NOON)
        await SqlAccounts(store.database).add(account, ApiKey("key_1", "acme", "first", "sk_", "hash", NOON))
        await store.webhooks.add(Registration(webhook(), NOON))
        yield store


@asynccontextmanager
async def unmigrated(url: URL, connections: int = 1, *, behind_pooler: bool = False) -> AsyncIterator[SqlStore]:
    """A database without tables."""
    database, clock = Database(url, connections, pool_seconds=5.0, behind_pooler=behind_pooler), FakeClock()
    outbox, encryption = SqlOutbox(database, clock), FakeEncryption()

    address = url.render_as_string(hide_password=False)

    yield SqlStore(
        clock=clock,
        recorder=SqlRecorder(database, clock, FakeTelemetry(), encryption),
        webhooks=SqlWebhooks(database, clock),
        outbox=outbox,
        propagation=outbox,
        delivery_log=SqlDeliveryStore(database),
        held=SqlHeldDeliveries(database),
        replays=SqlReplays(database, clock),
        jobs=SqlJobs(database, clock, encryption),
        replay_lookup=replay_lookup(address, Outages(FakeTelemetry()), behind_pooler),
        lease=lambda holder: SqlLease(database, clock, "publish", holder),
        database=database,
        erasures=SqlErasures(database, encryption, clock, lambda size: b"k" * size),
        erasure_outbox=SqlErasureOutbox(database, encryption),
    )
    await database.close()


def with_portions(store: Store, size: int) -> Store:
    """The store, with jobs that change `size` deliveries at a time."""
    if isinstance(store, SqlStore):
        jobs: Jobs = SqlJobs(store.database, store.clock, FakeEncryption(), portion_size=size)
    else:
        jobs = replace(cast("FakeJobs", store.jobs), portion_size=size)
    return replace(store, jobs=jobs)


async def publish_all(store: Store) -> None:
    await store.outbox.mark_published([(due, NOON) for due in await store.outbox.list_due(10)])


# -- facts -----------------------------------------------------------------------------------------------------


def failed(number: int, **changes: object) -> RecordedValue:
    """The failed attempt `number`, of its own event, a second after the last one."""
    start = NOON + timedelta(seconds=number)
    made = attempt(
        event_id=f"evt_{number}",
        started_at=start,
        ended_at=start + timedelta(milliseconds=5),
        outcome=OutcomeKind.SERVER_ERROR,
        next_step=NextStep.TIER,
        tier="30s",
        status=500,
    )
    return RecordedValue(made._replace(**changes), start)  # type: ignore[arg-type]


def history(event_id: str) -> list[RecordedValue]:
    """The life of a delivery: waiting, attempted, held, dead, replayed, delivered."""
    first = delivery(event_id=event_id)
    values: list[Delivery | Attempt | DeadLetter] = [
        *(first._replace(step=step) for step in (1, 3)),
        first.to_held(HoldReason.PAUSED, "pause_1", is_attempted=False),
        dead_letter(delivery=first._replace(step=7, attempt=7)),
        *(first._replace(generation=2, step=step) for step in (8, 10)),
        *(attempt(event_id=event_id, generation=1, step=step, number=step, next_step=NextStep.DONE) for step in (2, 4)),
        attempt(
            event_id=event_id,
            generation=2,
            step=9,
            next_step=NextStep.TIER,
            tier="30s",
            outcome=OutcomeKind.SERVER_ERROR,
        ),
        attempt(event_id=event_id, generation=2, step=11, number=2, next_step=NextStep.DONE),
    ]
    return [RecordedValue(value, NOON + timedelta(seconds=second)) for second, value in enumerate(values)]
