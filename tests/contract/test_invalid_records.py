"""Invalid records are listed, found and produced again, on a real broker."""

from datetime import timedelta

import pytest

from builders import NOON
from contract.clusters import CLOCK, KafkaCluster, RecordCollector, running, until
from contract.stores import SqlStore
from fakes import FakeClock, FakeKafka, FakeLease
from streams.adapters.kafka import invalid_records as adapter
from streams.adapters.kafka.invalid_records import KafkaInvalidRecords
from streams.core.accounts.audit import AuditFilter
from streams.core.errors import Conflict, NotFound, Unavailable
from streams.core.records.invalid_record import stored_record
from streams.features.invalid_records.service import InvalidRecordService
from streams.features.invalid_records.storage import SqlReplayedRecords
from streams.features.shared.audit_log import SqlAuditLog
from streams.ports.kafka import Outgoing, Partition, Record, RecordProducer
from streams.stages.invalid_records import to_invalid_record, to_truncated_invalid_record
from streams.topics import ATTEMPTS, INVALID, SESSION_EVENTS

RECORD = Record(Partition(SESSION_EVENTS, 0), 7, b"k", b"junk", NOON)


def invalid(number: int, topic: str = SESSION_EVENTS) -> Outgoing:
    """Goes to any partition of `session-events.invalid`, by its key."""
    record = Record(Partition(topic, 0), number, f"k{number}".encode(), b"junk", NOON, (("own", b"1"),))
    return to_invalid_record(record, f"error {number}")


def stored(cluster: KafkaCluster) -> KafkaInvalidRecords:
    return KafkaInvalidRecords(cluster.properties, cluster.prefix)


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "BATCH_SIZE", 3)


async def test_the_newest_are_listed_first(kafka_cluster: KafkaCluster) -> None:
    reader = stored(kafka_cluster)
    assert reader.list_newest(10) == list(reader.iterate_all()) == []
    async with kafka_cluster.producer() as producer:
        for number in range(20):
            await producer.produce([invalid(number, ATTEMPTS if number % 5 == 0 else SESSION_EVENTS)])
    stored_all = list(reader.iterate_all())
    assert len(stored_all) == 20
    # Two of one millisecond on different partitions have no order.
    for topic, most in ((None, 8), (ATTEMPTS, 3)):
        times = sorted((record.stored_at for record in stored_all if topic in (None, record.topic)), reverse=True)
        listed = reader.list_newest(most, topic)
        assert [record.stored_at for record in listed] == times[:most]
        assert len({record.id for record in listed}) == most
        assert {record.topic for record in listed} <= {topic or SESSION_EVENTS, ATTEMPTS}
    assert {record.topic for record in reader.iterate_all(ATTEMPTS)} == {ATTEMPTS}


async def test_one_is_found_by_its_id(kafka_cluster: KafkaCluster) -> None:
    reader = stored(kafka_cluster)
    async with kafka_cluster.producer() as producer:
        await producer.produce([invalid(7)])
    [listed] = reader.list_newest(10)
    assert reader.find(listed.id) == listed
    assert (listed.key, listed.value, listed.headers) == (b"k7", b"junk", (("own", b"1"),))
    for unknown in ("0-99", "99-0"):
        with pytest.raises(NotFound, match="retention may have deleted it"):
            reader.find(unknown)


def service_of(store: SqlStore, producer: RecordProducer, lease: FakeLease | None = None) -> InvalidRecordService:
    replayed = SqlReplayedRecords(store.database)
    return InvalidRecordService(
        producer, SqlAuditLog(store.database), CLOCK, [SESSION_EVENTS, INVALID], replayed, lease or FakeLease()
    )


async def test_a_replay_of_all_repeats_no_record(database: SqlStore) -> None:
    """Each record that is replayed is still invalid: it is stored again."""
    kafka = FakeKafka(FakeClock())
    stored_records = [stored_record(0, 0, NOON, b"k", b"junk", to_invalid_record(RECORD, "wrong").headers)]
    for number in range(1, 4):
        result = await service_of(database, kafka).replay(iter(stored_records), actor="cli:ada", is_repeated=False)
        assert (result.count, result.skipped) == (1, number - 1)
        at, headers = NOON + timedelta(seconds=number), stored_records[0].headers
        origin = to_invalid_record(RECORD, "wrong").headers
        stored_records.append(stored_record(0, number, at, b"k", b"junk", (*headers, *origin)))
    assert len(kafka.topic(SESSION_EVENTS)) == 3
    again = await service_of(database, kafka).replay(iter(stored_records[:1]), actor="cli:ada")
    assert (again.count, again.skipped) == (1, 0)


async def test_the_same_place_of_a_new_topic_is_another_record(database: SqlStore) -> None:
    kafka, headers = FakeKafka(FakeClock()), to_invalid_record(RECORD, "wrong").headers
    for at in (NOON, NOON + timedelta(days=1)):
        records = [stored_record(0, 0, at, b"k", b"junk", headers)]
        result = await service_of(database, kafka).replay(records, actor="cli:ada", is_repeated=False)
        assert result.count == 1


async def test_a_second_replay_at_once_is_refused(database: SqlStore) -> None:
    kafka, lease = FakeKafka(FakeClock()), FakeLease()
    assert await lease.rival().renew()
    records = [stored_record(0, 0, NOON, b"k", b"junk", to_invalid_record(RECORD, "wrong").headers)]
    with pytest.raises(Conflict, match="another replay"):
        await service_of(database, kafka, lease).replay(records, actor="cli:ada")
    assert kafka.topic(SESSION_EVENTS) == []


async def test_a_replayed_record_is_on_its_topic_as_it_was(kafka_cluster: KafkaCluster, database: SqlStore) -> None:
    seen, audit = RecordCollector(), SqlAuditLog(database.database)
    short = to_truncated_invalid_record(Record(Partition(SESSION_EVENTS, 0), 9, b"k", b"x" * 9999, NOON), "too large")
    foreign = invalid(8, "of-another-program")
    async with (
        kafka_cluster.producer() as producer,
        running(kafka_cluster.consumer(SESSION_EVENTS).run(seen)),
    ):
        await producer.produce([invalid(7), foreign, short])
        replayed_records = SqlReplayedRecords(database.database)
        topics = [SESSION_EVENTS, INVALID]
        service = InvalidRecordService(producer, audit, CLOCK, topics, replayed_records, FakeLease())
        progress: list[int] = []
        replayed = await service.replay(stored(kafka_cluster).iterate_all(), progress.append, actor="cli:ada")
        await until(lambda: len(seen.records) == 1)
    [record] = seen.records
    assert (record.key, record.value, record.headers) == (b"k7", b"junk", (("own", b"1"),))
    assert (replayed.count, progress) == (1, [3])
    assert sorted(why.partition(";")[0] for why in replayed.failures.values()) == [
        "its topic 'of-another-program' is not one of this deployment",
        "only its start is stored",
    ]
    [entry] = (await audit.list(AuditFilter(), None, 10)).rows
    assert (entry.actor, entry.action, entry.details) == ("cli:ada", "invalid_records.replayed", {"count": 1})


async def test_a_missing_topic_says_what_to_do(kafka_cluster: KafkaCluster) -> None:
    with pytest.raises(Unavailable, match="scorm-webhooks topics apply"):
        KafkaInvalidRecords(kafka_cluster.properties, "nothing-here.").list_newest(1)
