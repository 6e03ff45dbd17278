"""What the stages rely on in SQL, on SQLite and on a real PostgreSQL alike."""

import random
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import URL

from builders import NOON, attempt, delivery, webhook
from fakes import FakeClock, FakeReport
from real.postgres import Postgres
from streams.adapters.sql import migrate
from streams.adapters.sql.database import Database
from streams.adapters.sql.database import database_url as url_of
from streams.adapters.sql.delivery_log import SqlDeliveryLog
from streams.adapters.sql.outbox import LEASE_SECONDS, SqlLease, SqlOutbox
from streams.adapters.sql.recorder import SqlRecorder
from streams.adapters.sql.registry import SqlAccounts, SqlWebhooks
from streams.adapters.sql.tables import attempts, mails
from streams.core.account import Account, ApiKey, DeliveryFilter
from streams.core.attempt import Attempt, Followed
from streams.core.delivery import HoldReason, State
from streams.core.errors import Misconfigured, Refused, Unavailable
from streams.core.outcome import Kind
from streams.core.standing import Batch, Fact, Standing, fold, standing_of
from streams.core.webhook import PauseReason, Registration, Status


@dataclass
class Store:
    """A migrated database with one account and one webhook of it."""

    database: Database
    clock: FakeClock
    recorder: SqlRecorder
    webhooks: SqlWebhooks
    outbox: SqlOutbox
    log: SqlDeliveryLog

    async def count(self, table: object) -> int:
        async with self.database.reading() as connection:
            return int(await connection.scalar(select(func.count()).select_from(table)) or 0)  # type: ignore[arg-type]


@pytest.fixture
def url(database_url: str) -> URL:
    return url_of(database_url)


@pytest.fixture
async def store(url: URL) -> AsyncIterator[Store]:
    migrate.upgrade(url)
    database, clock = Database(url), FakeClock()
    ids = iter(range(1, 1_000_000))
    recorder = SqlRecorder(database, clock, FakeReport(), lambda prefix: f"{prefix}_{next(ids)}")
    account = Account("acme", "Acme", ("ops@acme.example",), NOON)
    await SqlAccounts(database).add(account, ApiKey("key_1", "acme", "first", "sk_", "hash", NOON))
    store = Store(
        database, clock, recorder, SqlWebhooks(database, clock), SqlOutbox(database), SqlDeliveryLog(database)
    )
    await store.webhooks.add(Registration(webhook(), NOON))
    yield store
    await database.close()


def failed(number: int, **changes: object) -> Fact:
    """Attempt `number` of an event of its own, a second after the one before."""
    start = NOON + timedelta(seconds=number)
    made = attempt(
        event_id=f"evt_{number}",
        started_at=start,
        ended_at=start + timedelta(milliseconds=5),
        kind=Kind.SERVER_ERROR,
        followed=Followed.TIER,
        tier="30s",
        status=500,
    )
    return Fact(replace(made, **changes), start)  # type: ignore[arg-type]


async def publish_all(store: Store) -> None:
    for due in await store.outbox.due(10):
        await store.outbox.published(due, NOON)


# -- recorder --------------------------------------------------------------------------------------------------


async def test_a_batch_that_is_recorded_twice_changes_nothing(store: Store) -> None:
    batch = fold([Fact(delivery(), NOON), Fact(attempt(), NOON)])
    await store.recorder.record(batch)
    once = await store.log.find(delivery().id)
    await store.recorder.record(batch)
    assert await store.log.find(delivery().id) == once
    assert once is not None
    assert (once.standing.state, once.body, len(once.attempts)) == (State.DELIVERED, delivery().body, 1)


async def test_states_fold_in_sql_as_they_do_in_the_core_in_whatever_order_and_batches(store: Store) -> None:
    dice = random.Random(7)
    first = delivery()
    facts = [Fact(replace(first, step=step), NOON + timedelta(seconds=step)) for step in (1, 3, 5)]
    facts += [Fact(first.held(HoldReason.PAUSED, "pause_1", attempted=False), NOON)]
    facts += [Fact(replace(first, generation=2, step=step), NOON) for step in (6, 7)]
    facts += [Fact(attempt(generation=2, step=7, followed=Followed.DONE), NOON)]
    expected: Standing | None = None
    for fact in dice.choices(facts, k=60):
        standing = standing_of(fact)
        assert standing is not None
        expected = standing if expected is None or standing.supersedes(expected) else expected
        await store.recorder.record(fold([fact]))
        [stored] = await store.log.list(DeliveryFilter())
        assert (stored.generation, stored.step, stored.state) == (expected.generation, expected.step, expected.state)


async def test_five_failures_in_a_row_pause_once_owe_one_mail_and_make_the_webhook_due(store: Store) -> None:
    await publish_all(store)
    facts = [failed(number) for number in range(1, 8)]
    await store.recorder.record(fold(facts[:4]))
    assert await store.outbox.due(10) == []
    for fact in facts[4:]:
        await store.recorder.record(fold([fact]))
    [due] = await store.outbox.due(10)
    assert due.webhook is not None
    assert due.webhook.pause is not None
    assert (due.webhook.status, due.webhook.pause.reason) == (Status.PAUSED, PauseReason.FAILURES)
    assert await store.count(mails) == 1


async def test_failures_of_an_older_health_epoch_do_not_count(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, health_epoch=2)))
    await store.recorder.record(fold([failed(number) for number in range(1, 9)]))
    [registration] = await store.webhooks.list()
    assert registration.webhook.status is Status.ACTIVE


async def test_an_answer_of_any_bytes_is_stored(store: Store) -> None:
    wild = attempt(answer=bytes(range(256)))
    await store.recorder.record(fold([Fact(wild, NOON)]))
    seen = await store.log.find(wild.delivery_id)
    assert seen is not None
    assert seen.attempts[0].answer == bytes(range(256))


async def test_a_row_that_the_database_refuses_is_refused_and_not_waited_for(store: Store) -> None:
    poison: Attempt = attempt(words="a\0b")
    if store.database.is_sqlite:  # which takes a NUL in a text
        await store.recorder.record(fold([Fact(poison, NOON)]))
        assert await store.count(attempts) == 1
        return
    with pytest.raises(Refused, match="NUL"):
        await store.recorder.record(fold([Fact(poison, NOON)]))
    assert await store.count(attempts) == 0


# -- outbox and lease ------------------------------------------------------------------------------------------


async def test_a_change_while_the_older_version_was_being_published_stays_due(store: Store) -> None:
    [older] = await store.outbox.due(10)
    await store.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    await store.outbox.published(older, NOON)
    [newer] = await store.outbox.due(10)
    assert newer.version > older.version
    assert not await store.outbox.is_published("wh_crm")


async def test_versions_grow_even_when_the_clock_goes_back(store: Store) -> None:
    versions = []
    for description in ("one", "two", "three"):
        store.clock.advance(-3600) if description == "two" else None
        changed = await store.webhooks.change(
            "wh_crm",
            lambda r, text=description: replace(r, description=text),  # type: ignore[misc]
        )
        assert changed is not None
        versions.append(changed.webhook.version)
    assert versions == sorted(set(versions))


async def test_a_deleted_webhook_is_due_as_a_tombstone_and_listed_no_more(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: None)
    assert [due.webhook for due in await store.outbox.due(10)] == [None]
    assert await store.webhooks.list() == []
    assert await store.webhooks.change("wh_crm", lambda r: r) is None


async def test_comparing_with_the_topic_makes_due_what_differs_and_names_strangers(store: Store) -> None:
    [due] = await store.outbox.due(10)
    await publish_all(store)
    assert await store.outbox.compare({"wh_crm": due.version}) == []
    assert await store.outbox.due(10) == []
    assert await store.outbox.compare({"wh_ghost": 1}) == ["wh_ghost"]
    assert [again.webhook_id for again in await store.outbox.due(10)] == ["wh_crm"]


async def test_one_publisher_holds_the_lease_until_it_lets_go_or_stops_renewing(store: Store) -> None:
    first = SqlLease(store.database, store.clock, "publish", "first")
    second = SqlLease(store.database, store.clock, "publish", "second")
    assert (await first.renew(), await second.renew(), await first.renew()) == (True, False, True)
    store.clock.advance(LEASE_SECONDS + 1)
    assert (await second.renew(), await first.renew()) == (True, False)
    await second.release()
    assert await first.renew()


# -- migrations and bad days -----------------------------------------------------------------------------------


async def test_migrations_go_up_and_down_with_rows_in_the_tables(store: Store, url: URL) -> None:
    await store.recorder.record(fold([Fact(delivery(), NOON), Fact(attempt(), NOON)]))
    await store.database.close()
    migrate.require_head(url)
    migrate.differences(url)
    migrate.downgrade(url, "base")
    with pytest.raises(Misconfigured, match="db upgrade"):
        migrate.require_head(url)
    migrate.upgrade(url)
    migrate.require_head(url)


async def test_a_damaged_sqlite_file_is_waited_out_and_nothing_is_taken_for_stored(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.write_bytes(b"this is no database at all, but it is long enough to look like a file of one" * 100)
    url = url_of(f"sqlite:///{path}")
    with pytest.raises(Misconfigured, match="not a database"):
        migrate.require_head(url)
    database = Database(url)
    recorder = SqlRecorder(database, FakeClock(), FakeReport(), str)
    with pytest.raises(Unavailable, match="not a database"):
        await recorder.record(Batch(attempts=(attempt(),)))
    assert "not a database" in database.troubles()[0]
    await database.close()


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond `at_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_waited_out_and_nothing_is_taken_for_stored(tmp_path: Path) -> None:
    url = url_of(f"sqlite:///{tmp_path}/db.sqlite")
    migrate.upgrade(url)
    database = Database(url)
    recorder = SqlRecorder(database, FakeClock(), FakeReport(), str)
    batch = fold([Fact(attempt(event_id=f"evt_{number}", answer=b"x" * 4096), NOON) for number in range(200)])
    with full_disk(256 * 1024), pytest.raises(Unavailable):
        await recorder.record(batch)
    assert database.troubles()
    assert await SqlDeliveryLog(database).list(DeliveryFilter()) == []
    await recorder.record(batch)
    assert len(await SqlDeliveryLog(database).list(DeliveryFilter(limit=1000))) == 200
    await database.close()


async def test_a_database_that_was_away_is_used_again_when_it_is_back(own_postgres: Postgres) -> None:
    url = url_of(own_postgres.url())
    migrate.upgrade(url)
    database = Database(url)
    outbox = SqlOutbox(database)
    assert await outbox.due(1) == []
    own_postgres.stop()
    with pytest.raises(Unavailable):
        await outbox.due(1)
    assert database.troubles()
    own_postgres.start()
    assert await outbox.due(1) == []
    assert database.troubles() == []
    await database.close()
