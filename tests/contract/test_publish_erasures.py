"""`publish` brings each erasure from SQL to the topic `erasures`, and after a restore from the topic to SQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import delete, func, select, update

from builders import NOON
from contract.clusters import until
from contract.learners import ADA, BEFORE, learners, of_learner, record, traces
from contract.stores import SqlStore
from fakes import (
    FakeClock,
    FakeEncryption,
    FakeFailedWork,
    FakeKafka,
    FakeTelemetry,
    no_wait,
    postponed_work,
    stop_others,
)
from fakes.erasures import FakeErasureTopic
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.erasures.erasure_outbox import SqlErasureOutbox, store_erased
from streams.adapters.sql.tables.erasures import dirty_erasures, erased_learners, erasures, learner_hash_key
from streams.core.erasures.erasure import ErasedLearner, Erasure, hash_key_id, key_to_text, learner_hash
from streams.core.erasures.erasure_record import encode_erasure, encode_version, erasure_key, hash_key_key
from streams.core.erasures.erasures_table import ErasuresTable
from streams.core.errors import Conflict
from streams.core.failed_work import WorkKind
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel, key_of
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition
from streams.stages.publish_erasures import ErasureReconcileResult, PublishErasures, PublishErasuresPacing
from streams.topics import ERASURE_RETENTION, ERASURES

OWN_KEY = b"k" * 32
OTHER_KEY = b"o" * 32
AT_ONCE = PublishErasuresPacing(
    sentinel_interval_seconds=0, keys_interval_seconds=0, compare_interval_seconds=0, forget_interval_seconds=0
)


@dataclass
class PublisherFixture:
    """A publisher of one database, and its topic. Each `start` is another process."""

    store: SqlStore
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    failed_work: FakeFailedWork = field(default_factory=FakeFailedWork)
    broker_clock: FakeClock = field(default_factory=FakeClock)
    pacing: PublishErasuresPacing = AT_ONCE
    incarnations: list[str] = field(default_factory=lambda: ["first", "second", "third"])

    def __post_init__(self) -> None:
        self.kafka = FakeKafka(self.broker_clock)
        self.outbox = self.store.erasure_outbox

    def publisher(self, topic: FakeErasureTopic) -> PublishErasures:
        return PublishErasures(
            self.outbox,
            topic,
            self.kafka,
            self.telemetry,
            self.store.clock,
            lambda: self.incarnations.pop(0),
            Outages(self.telemetry, sleep=no_wait),
            postponed_work(self.telemetry, self.store.clock, self.failed_work),
            self.pacing,
        )

    def start(self) -> asyncio.Task[None]:
        topic = FakeErasureTopic(self.kafka, follows=True)
        return asyncio.create_task(self.publisher(topic).run(topic.table))

    async def reconcile(self) -> ErasureReconcileResult:
        topic = FakeErasureTopic(self.kafka, follows=True)
        return await self.publisher(topic).reconcile(topic.table)

    def table(self, *, compacted: bool = False) -> ErasuresTable:
        """What a stage knows that starts now."""
        return FakeErasureTopic(self.kafka, compacted=compacted).table

    @property
    def names(self) -> list[str]:
        return [key_of(one.key) for one in self.kafka.records(Partition(ERASURES, 0))]

    async def dirty_count(self) -> int:
        return await self.store.count(dirty_erasures)


@pytest_asyncio.fixture
async def fixture(database: SqlStore) -> AsyncIterator[PublisherFixture]:
    yield PublisherFixture(database)
    await stop_others()


async def erase(store: SqlStore, learner: str = ADA) -> Erasure:
    return await learners(store).start("acme", learner, actor="ada")


async def until_published(fixture: PublisherFixture) -> None:
    async with asyncio.timeout(10):
        while await fixture.dirty_count() or not fixture.table().is_complete():
            await asyncio.sleep(0.01)


async def until_stored(fixture: PublisherFixture, count: int) -> None:
    async with asyncio.timeout(10):
        while await fixture.store.count(erased_learners) != count:
            await asyncio.sleep(0.01)


def foreign(fixture: PublisherFixture, learner: str, key: bytes = OTHER_KEY, at: datetime = NOON) -> Outgoing:
    """An erasure of a database that is no more, by its own key."""
    hashed = learner_hash(key, "acme", learner).hex()
    erased = ErasedLearner("acme", hashed, hash_key_id(key), at)
    return Outgoing(ERASURES, erasure_key("acme", hashed).encode(), encode_erasure(erased))


def key_record(key: bytes = OTHER_KEY) -> Outgoing:
    ciphertext = FakeEncryption().encrypt(key_to_text(key))
    return Outgoing(ERASURES, hash_key_key(hash_key_id(key)).encode(), f'{{"ciphertext": "{ciphertext}"}}'.encode())


# -- from SQL to the topic -----------------------------------------------------------------------------------------


async def test_the_key_comes_first_and_the_sentinel_last(fixture: PublisherFixture) -> None:
    erasure = await erase(fixture.store)
    assert await fixture.reconcile() == ErasureReconcileResult(0, 1)
    assert fixture.names == [
        hash_key_key(hash_key_id(OWN_KEY)),
        erasure_key("acme", erasure.learner_hash),
        SENTINEL_KEY,
    ]
    table = fixture.table()
    assert table.sentinel == Sentinel("first", 1)
    assert table.is_complete()
    assert table.is_readable()
    assert table.erased_at("acme", ADA) == erasure.erased_at
    assert table.erased_at("acme", "grace") is None


async def test_without_an_erasure_there_is_a_sentinel(fixture: PublisherFixture) -> None:
    assert await fixture.reconcile() == ErasureReconcileResult(0, 0)
    assert fixture.names == [SENTINEL_KEY]
    assert fixture.table().is_complete()


async def test_an_erasure_is_due_from_its_commit_on(fixture: PublisherFixture) -> None:
    # The process of the API ends here: nobody finishes the erasure.
    erasure = await erase(fixture.store)
    assert not await fixture.outbox.is_published("acme", erasure.learner_hash)
    fixture.start()
    await until_published(fixture)
    assert await fixture.outbox.is_published("acme", erasure.learner_hash)
    assert fixture.table().erased_at("acme", ADA) == NOON


async def test_a_refused_erasure_is_not_due(fixture: PublisherFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.features.learners.storage.MAX_ERASURES_PER_DAY", 0)
    with pytest.raises(Conflict, match="go on later"):
        await erase(fixture.store)
    assert await fixture.dirty_count() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ErasedLearner("acme", "0 is not a hash", "", NOON),
        ErasedLearner("acme", "AB" * 32, "", NOON),
        ErasedLearner("not an id", "ab" * 32, "", NOON),
        ErasedLearner("acme", "ab" * 32, "0123456789abcdef", NOON),
    ],
    ids=["no_hash", "upper_case", "no_account", "no_key"],
)
async def test_a_wrong_erasure_delays_no_other(fixture: PublisherFixture, wrong: ErasedLearner) -> None:
    async with fixture.store.database.transaction() as connection:
        await store_erased(connection, wrong)
    erasure = await erase(fixture.store)
    running = fixture.start()
    name = erasure_key("acme", erasure.learner_hash)
    async with asyncio.timeout(10):
        while name not in fixture.names or SENTINEL_KEY not in fixture.names:
            await asyncio.sleep(0.01)
    assert not running.done()
    assert set(fixture.failed_work.failures) == {(WorkKind.ERASURE, erasure_key(wrong.account_id, wrong.learner_hash))}
    assert await fixture.dirty_count() == 1
    table = fixture.table()
    assert table.sentinel == Sentinel("first", 1)
    assert table.is_complete()
    assert table.is_readable()


@pytest.mark.parametrize("appended", [False, True])
async def test_a_publisher_that_dies_publishes_again(fixture: PublisherFixture, appended: bool) -> None:
    await erase(fixture.store)
    # The second call produces the erasure, after its key.
    fixture.kafka.die_in(2, appended=appended)
    dead = fixture.start()
    await until(lambda: fixture.kafka.is_dead)
    dead.cancel()
    assert await fixture.dirty_count() == 1
    assert not fixture.table().is_complete()
    fixture.kafka.revive()
    await fixture.reconcile()
    assert await fixture.dirty_count() == 0
    assert fixture.table().is_complete()
    assert fixture.table().erased_at("acme", ADA) == NOON


async def test_a_second_erasure_during_the_first_stays_due(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    [first] = await fixture.outbox.list_due(10)
    fixture.store.clock.advance(5)
    await erase(fixture.store)
    await fixture.outbox.mark_published([first])
    assert await fixture.dirty_count() == 1
    await fixture.reconcile()
    assert fixture.table().erased_at("acme", ADA) == NOON + timedelta(seconds=5)
    assert len(fixture.table()) == 1


async def test_what_an_old_publisher_overwrote_is_written_again(fixture: PublisherFixture) -> None:
    first = await erase(fixture.store)
    [old] = await fixture.outbox.list_due(10)
    fixture.store.clock.advance(5)
    await erase(fixture.store)
    fixture.start()
    await until_published(fixture)
    key = erasure_key("acme", first.learner_hash).encode()
    fixture.kafka.append(Outgoing(ERASURES, key, encode_erasure(old)))
    fixture.kafka.append(Outgoing(ERASURES, key, None, (encode_version(NOON),)))
    fixture.kafka.append(Outgoing(ERASURES, key, b"nonsense"))
    fixture.kafka.append(Outgoing(ERASURES, hash_key_key(hash_key_id(OWN_KEY)).encode(), b"nonsense"))
    fixture.kafka.append(Outgoing(ERASURES, b"nobody's", b"{}"))
    fixture.kafka.append(Outgoing(ERASURES, SENTINEL_KEY.encode(), b"nonsense"))
    until_time = NOON + timedelta(seconds=5)
    await until(
        lambda: (table := fixture.table(compacted=True)).is_complete() and table.erased_at("acme", ADA) == until_time
    )
    assert fixture.telemetry.logged_count("another_writer_on_erasures") >= 1


# A publisher that was frozen counts learners who were forgotten in the meantime.
@pytest.mark.parametrize(
    "value", [b"nonsense", Sentinel("first", 9).encode()], ids=["invalid", "of_a_frozen_publisher"]
)
async def test_an_overwritten_sentinel_is_written_again(fixture: PublisherFixture, value: bytes) -> None:
    fixture.pacing = replace(AT_ONCE, forget_interval_seconds=3600)
    await erase(fixture.store)
    fixture.start()
    await until_published(fixture)
    fixture.kafka.append(Outgoing(ERASURES, SENTINEL_KEY.encode(), value))
    assert not fixture.table(compacted=True).is_complete()
    await until(lambda: fixture.table(compacted=True).is_complete())


async def test_a_late_key_of_a_frozen_publisher_is_replaced(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    fixture.start()
    await until_published(fixture)
    key = hash_key_key(hash_key_id(OWN_KEY)).encode()
    fixture.kafka.append(Outgoing(ERASURES, key, b'{"ciphertext": "by a key that was removed"}'))
    assert not fixture.table(compacted=True).is_readable()
    await until(lambda: fixture.table(compacted=True).is_readable())


async def test_no_process_takes_a_part_for_all(fixture: PublisherFixture) -> None:
    fixture.pacing = replace(AT_ONCE, batch_erasures=1)
    for learner in (ADA, "grace", "alan"):
        await erase(fixture.store, learner)
    # A topic that has lost its erasures, and not its sentinel.
    fixture.kafka.append(key_record(OWN_KEY))
    fixture.kafka.append(Outgoing(ERASURES, SENTINEL_KEY.encode(), Sentinel("first", 3).encode()))
    complete_sizes = set[int]()
    fixture.kafka.appended.append(lambda: note_complete_size(fixture, complete_sizes))
    fixture.start()
    await until_published(fixture)
    assert complete_sizes == {3}


def note_complete_size(fixture: PublisherFixture, sizes: set[int]) -> None:
    table = fixture.table(compacted=True)
    if table.is_complete():
        sizes.add(len(table))


async def test_a_recreated_topic_gets_all_erasures_again(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    await erase(fixture.store, "grace")
    await fixture.reconcile()
    fixture.kafka.recreate(Partition(ERASURES, 0))
    assert not fixture.table().is_complete()
    assert await fixture.reconcile() == ErasureReconcileResult(0, 2)
    table = fixture.table()
    assert table.sentinel == Sentinel("second", 2)
    assert table.erased_at("acme", "grace") == NOON


async def test_a_record_that_is_lost_is_written_again(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    await fixture.reconcile()
    fixture.kafka.recreate(Partition(ERASURES, 0))
    # The topic seems to be there: a key and a sentinel, and no erasure.
    fixture.kafka.append(key_record(OWN_KEY))
    fixture.kafka.append(Outgoing(ERASURES, SENTINEL_KEY.encode(), Sentinel("first", 0).encode()))
    fixture.start()
    await until(lambda: fixture.table().erased_at("acme", ADA) == NOON)


async def test_a_new_encryption_key_reaches_the_topic(fixture: PublisherFixture) -> None:
    store = fixture.store
    await store.webhooks.change("wh_crm", lambda known: None)
    old, new = generate_key(), generate_key()
    both = FernetEncryption([new, old])
    async with store.database.transaction() as connection:
        ciphertext = FernetEncryption([old]).encrypt(key_to_text(OWN_KEY))
        await connection.execute(learner_hash_key.insert().values(id=1, ciphertext=ciphertext))
    fixture.outbox = SqlErasureOutbox(store.database, both)
    await fixture.reconcile()
    await SqlEncryptionCheck(store.database, both).require_right_keys()
    await SqlEncryptionCheck(store.database, both).reencrypt()
    await fixture.reconcile()
    [*_, last] = [one.value for one in fixture.kafka.records(Partition(ERASURES, 0)) if b"key:" in (one.key or b"")]
    assert last
    assert FernetEncryption([new]).can_decrypt(last.decode().split('"')[3])


# -- from the topic to SQL ------------------------------------------------------------------------------------------


async def restore(store: SqlStore) -> None:
    """Restore a dump of before the first erasure."""
    async with store.database.transaction() as connection:
        for table in (dirty_erasures, erased_learners, erasures, learner_hash_key):
            await connection.execute(delete(table))


async def test_a_restored_database_learns_what_was_erased(fixture: PublisherFixture) -> None:
    for learner in (ADA, "grace", "alan"):
        await erase(fixture.store, learner)
    await fixture.reconcile()
    await restore(fixture.store)
    # An erasure in the restored database makes another key.
    fixture.store.erasures._random_bytes = lambda size: OTHER_KEY
    await erase(fixture.store, "edsger")
    assert await fixture.reconcile() == ErasureReconcileResult(3, 1)
    table = fixture.table(compacted=True)
    assert table.is_complete()
    assert table.sentinel == Sentinel("first", 4)
    assert [table.erased_at("acme", name) for name in (ADA, "grace", "alan", "edsger")] == [NOON] * 4
    # A late record of a learner whom the database knows by the other key alone.
    await record(fixture.store, of_learner(1), at=BEFORE)
    assert await traces(fixture.store) == []
    assert fixture.telemetry.logged_count("erasures_learned") == 1
    assert await fixture.reconcile() == ErasureReconcileResult(0, 0)


async def test_a_restored_database_learns_the_later_of_two_erasures(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    await fixture.reconcile()
    fixture.store.clock.advance(60)
    await erase(fixture.store)
    await fixture.reconcile()
    async with fixture.store.database.transaction() as connection:
        await connection.execute(update(erased_learners).values(erased_at=NOON))
    assert (await fixture.reconcile()).learned == 1
    later = NOON + timedelta(seconds=60)
    assert await fixture.store.database.scalar(select(func.max(erased_learners.c.erased_at))) == later
    assert fixture.table(compacted=True).erased_at("acme", ADA) == later


async def test_a_running_publisher_learns_after_a_restore(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    fixture.start()
    await until_published(fixture)
    await restore(fixture.store)
    await until(lambda: fixture.telemetry.logged_count("erasures_learned") == 1)
    assert await fixture.store.count(erased_learners) == 1


async def test_an_older_time_of_a_restored_outbox_replaces_none(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    [old] = await fixture.outbox.list_due(10)
    fixture.store.clock.advance(60)
    await erase(fixture.store)
    fixture.start()
    await until_published(fixture)
    # A dump of the moment of the first erasure is restored while the publisher runs.
    async with fixture.store.database.transaction() as connection:
        await connection.execute(delete(erased_learners))
        await store_erased(connection, old)
    await until(lambda: fixture.telemetry.logged_count("erasures_learned") == 1)
    await until_published(fixture)
    assert fixture.table(compacted=True).erased_at("acme", ADA) == NOON + timedelta(seconds=60)
    assert fixture.telemetry.logged_count("another_writer_on_erasures") == 0


async def test_reconcile_removes_no_erasure_that_sql_does_not_know(fixture: PublisherFixture) -> None:
    fixture.kafka.append(key_record())
    fixture.kafka.append(foreign(fixture, "barbara"))
    assert await fixture.reconcile() == ErasureReconcileResult(1, 0)
    table = fixture.table(compacted=True)
    assert table.erased_at("acme", "barbara") == NOON
    assert table.is_complete()


async def test_a_key_that_no_encryption_key_reads_is_not_stored(fixture: PublisherFixture) -> None:
    locked = Outgoing(ERASURES, hash_key_key(hash_key_id(OTHER_KEY)).encode(), b'{"ciphertext": "of another"}')
    fixture.kafka.append(locked)
    fixture.start()
    await until(lambda: fixture.telemetry.logged_count("encryption_keys_wrong") == 1)
    assert await fixture.store.count(learner_hash_key) == 0
    assert not fixture.table().is_readable()


# -- what no topic can hold any more ---------------------------------------------------------------------------------


async def pass_retention(fixture: PublisherFixture, *clocks: FakeClock) -> None:
    for clock in clocks:
        clock.advance((ERASURE_RETENTION + timedelta(seconds=1)).total_seconds())


async def test_an_erasure_is_forgotten_after_the_oldest_record(fixture: PublisherFixture) -> None:
    for learner in (ADA, "alan"):
        await erase(fixture.store, learner)
    await fixture.reconcile()
    await pass_retention(fixture, fixture.store.clock, fixture.broker_clock)
    await erase(fixture.store, "grace")
    # A process that starts at any moment finds as many as the sentinel counts.
    complete = list[bool]()
    fixture.kafka.appended.append(lambda: complete.append(fixture.table(compacted=True).is_complete()))
    fixture.start()
    await until(lambda: not any(fixture.table().erased_at("acme", name) for name in (ADA, "alan")))
    assert all(complete)
    await until_published(fixture)
    table = fixture.table(compacted=True)
    assert table.erased_at("acme", "grace") is not None
    assert table.is_complete()
    await until_stored(fixture, 1)


@pytest.mark.parametrize("name", ["store", "broker"])
async def test_a_clock_that_is_ahead_forgets_nothing(fixture: PublisherFixture, name: str) -> None:
    await erase(fixture.store)
    await fixture.reconcile()
    await pass_retention(fixture, fixture.store.clock if name == "store" else fixture.broker_clock)
    fixture.start()
    # Each look for what is old writes a sentinel.
    await until(lambda: fixture.names.count(SENTINEL_KEY) >= 5)
    assert fixture.table().erased_at("acme", ADA) == NOON


async def test_a_publisher_that_dies_while_it_forgets_goes_on(fixture: PublisherFixture) -> None:
    erasure = await erase(fixture.store)
    await fixture.reconcile()
    await pass_retention(fixture, fixture.store.clock, fixture.broker_clock)
    # It died between the tombstone and SQL.
    key = erasure_key("acme", erasure.learner_hash).encode()
    fixture.kafka.append(Outgoing(ERASURES, key, None, (encode_version(NOON),)))
    fixture.start()
    await until(lambda: fixture.names.count(key.decode()) >= 3 and not len(fixture.table()))
    await until(lambda: fixture.table(compacted=True).is_complete())
    await until_stored(fixture, 0)


async def test_the_key_of_another_database_goes_with_its_last_erasure(fixture: PublisherFixture) -> None:
    await erase(fixture.store)
    fixture.kafka.append(key_record())
    fixture.kafka.append(foreign(fixture, "barbara"))
    await fixture.reconcile()
    assert await fixture.store.count(learner_hash_key) == 2
    await pass_retention(fixture, fixture.store.clock, fixture.broker_clock)
    fixture.start()
    await until(lambda: not len(fixture.table()))
    await until(lambda: list(fixture.table(compacted=True).ciphertexts) == [hash_key_id(OWN_KEY)])
    await until(lambda: fixture.table(compacted=True).is_complete())
    assert fixture.table(compacted=True).is_readable()
