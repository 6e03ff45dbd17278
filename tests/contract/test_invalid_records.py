"""Invalid records are listed, found and produced again, on a real broker."""

import pytest

from builders import NOON
from contract.clusters import CLOCK, KafkaCluster, RecordCollector, running, until
from streams.adapters.kafka import invalid_records as adapter
from streams.adapters.kafka.invalid_records import KafkaInvalidRecords
from streams.core.audit import AuditEntry, AuditFilter
from streams.core.errors import NotFound, Unavailable
from streams.core.page import Cursor, Page
from streams.features.invalid_records.service import InvalidRecordService
from streams.ports import Outgoing, Partition, Record
from streams.stages.invalid_records import to_invalid_record, to_truncated_invalid_record
from streams.topics import ATTEMPTS, INVALID, SESSION_EVENTS


class FakeAuditLog:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def add(self, audit_entry: AuditEntry) -> None:
        self.entries.append(audit_entry)

    async def list(self, wanted: AuditFilter, after: Cursor | None, limit: int) -> Page[AuditEntry]:
        return Page(self.entries, None)


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


async def test_a_replayed_record_is_on_its_topic_as_it_was(kafka_cluster: KafkaCluster) -> None:
    seen, audit = RecordCollector(), FakeAuditLog()
    short = to_truncated_invalid_record(Record(Partition(SESSION_EVENTS, 0), 9, b"k", b"x" * 9999, NOON), "too large")
    foreign = invalid(8, "of-another-program")
    async with (
        kafka_cluster.producer() as producer,
        running(kafka_cluster.consumer(SESSION_EVENTS).run(seen)),
    ):
        await producer.produce([invalid(7), foreign, short])
        service = InvalidRecordService(producer, audit, CLOCK, [SESSION_EVENTS, INVALID])
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
    [entry] = audit.entries
    assert (entry.actor, entry.action, entry.details) == ("cli:ada", "invalid_records.replayed", {"count": 1})


async def test_a_missing_topic_says_what_to_do(kafka_cluster: KafkaCluster) -> None:
    with pytest.raises(Unavailable, match="scorm-webhooks topics apply"):
        KafkaInvalidRecords(kafka_cluster.properties, "nothing-here.").list_newest(1)
