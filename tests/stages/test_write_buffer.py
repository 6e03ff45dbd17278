"""Records leave the buffer in order: attempts first, deliveries after a short wait."""

from datetime import timedelta
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.ports.kafka import Partition, Record, RecordConsumer
from streams.stages.consuming.write_buffer import (
    BUSY_RECORDS,
    BUSY_SECONDS,
    LINGER_SECONDS,
    MAX_BUFFERED_BYTES,
    MAX_BUFFERED_RECORDS,
    MAX_WAIT_SECONDS,
    WriteBuffer,
)
from streams.topics import ATTEMPTS, DELIVERIES

TOPICS = (ATTEMPTS, DELIVERIES)


class PausingConsumer:
    """The part of a `RecordConsumer` that pauses partitions."""

    def __init__(self) -> None:
        self.paused: set[Partition] = set()
        self.pause = self.paused.add
        self.resume = self.paused.discard


class BufferFixture:
    """A write buffer with two partitions of each topic."""

    def __init__(self) -> None:
        self.consumer = PausingConsumer()
        self.buffer = WriteBuffer(cast("RecordConsumer", self.consumer))
        self.buffer.open(Partition(topic, number) for topic in TOPICS for number in (0, 1))
        self._offset = 0

    def add(self, topic: str, count: int, now: float, number: int = 0, age: float = 0, value: bytes = b"") -> None:
        offsets = range(self._offset, self._offset + count)
        self._offset += count
        at, today = NOON + timedelta(seconds=now - age), NOON + timedelta(seconds=now)
        self.buffer.add(
            [Record(Partition(topic, number), offset, b"wh_crm", value, at) for offset in offsets], now, today
        )

    def take(self, now: float, most: int = 1000) -> list[str]:
        return [record.partition.topic for record in self.buffer.take(most, now)]


def test_deliveries_wait_for_their_attempts() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 1, now=0)
    fixture.add(ATTEMPTS, 1, now=0.1)
    assert fixture.take(now=0.1) == [ATTEMPTS]
    assert fixture.take(now=0.1) == []
    assert fixture.buffer.next_ready_at() == LINGER_SECONDS
    assert fixture.take(now=LINGER_SECONDS) == [DELIVERIES]
    assert fixture.buffer.next_ready_at() is None


def test_many_attempts_limit_the_deliveries_taken() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 3 * BUSY_RECORDS, now=0)
    fixture.add(ATTEMPTS, BUSY_RECORDS, now=2)
    assert fixture.take(now=2) == [ATTEMPTS] * BUSY_RECORDS + [DELIVERIES] * BUSY_RECORDS
    assert fixture.take(now=2) == []
    fixture.add(ATTEMPTS, 5, now=2.5)
    assert fixture.take(now=2.5) == [ATTEMPTS] * 5 + [DELIVERIES] * 5
    assert fixture.buffer.next_ready_at() == 2 + BUSY_SECONDS
    assert fixture.take(now=2 + BUSY_SECONDS) == [DELIVERIES] * (2 * BUSY_RECORDS - 5)


def test_a_few_attempts_do_not_block_deliveries() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 500, now=0)
    fixture.add(ATTEMPTS, 1, now=LINGER_SECONDS)
    assert fixture.take(now=LINGER_SECONDS) == [ATTEMPTS] + [DELIVERIES] * 500


def test_overdue_deliveries_are_taken_among_many_attempts() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 300, now=0)
    soon_overdue = MAX_WAIT_SECONDS + LINGER_SECONDS / 2
    fixture.add(ATTEMPTS, BUSY_RECORDS, now=soon_overdue)
    assert fixture.take(now=soon_overdue) == [ATTEMPTS] * BUSY_RECORDS + [DELIVERIES] * BUSY_RECORDS
    assert fixture.buffer.next_ready_at() == LINGER_SECONDS + MAX_WAIT_SECONDS
    assert fixture.take(now=LINGER_SECONDS + MAX_WAIT_SECONDS) == [DELIVERIES] * 200


def test_a_backlog_of_old_deliveries_does_not_linger() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 3, now=60, age=LINGER_SECONDS)
    assert fixture.take(now=60) == [DELIVERIES] * 3


def test_deliveries_behind_attempts_wait_until_overdue() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 10, now=0)
    fixture.add(ATTEMPTS, 40, now=0)
    assert fixture.take(now=MAX_WAIT_SECONDS, most=10) == [ATTEMPTS] * 10
    assert fixture.take(now=LINGER_SECONDS + MAX_WAIT_SECONDS, most=10) == [ATTEMPTS] * 5 + [DELIVERIES] * 5


def test_a_closed_buffer_empties_and_accepts_nothing() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, 2, now=0)
    fixture.buffer.close()
    fixture.add(DELIVERIES, 1, now=0)
    assert fixture.take(now=0) == [DELIVERIES] * 2


def test_a_full_queue_pauses_its_topics_until_half_is_taken() -> None:
    fixture = BufferFixture()
    fixture.add(DELIVERIES, MAX_BUFFERED_RECORDS, now=0)
    assert fixture.consumer.paused == {Partition(DELIVERIES, 0), Partition(DELIVERIES, 1)}
    fixture.take(now=LINGER_SECONDS, most=MAX_BUFFERED_RECORDS // 2)
    assert fixture.consumer.paused == set()


def test_a_queue_of_large_records_is_full_by_its_bytes() -> None:
    fixture = BufferFixture()
    half = bytes(MAX_BUFFERED_BYTES // 2)
    fixture.add(ATTEMPTS, 2, now=0, value=half)
    fixture.add(DELIVERIES, 1, now=0, value=half)
    assert fixture.consumer.paused == {Partition(ATTEMPTS, 0), Partition(ATTEMPTS, 1)}
    fixture.take(now=0, most=1)
    assert fixture.consumer.paused == set()
    fixture.add(DELIVERIES, 1, now=0, number=1, value=half)
    assert len(fixture.consumer.paused) == 2
    fixture.buffer.drop([Partition(DELIVERIES, 1)])
    assert fixture.consumer.paused == {Partition(DELIVERIES, 1)}


def test_nothing_is_taken_of_a_forgotten_partition() -> None:
    fixture = BufferFixture()
    for number in (0, 1):
        fixture.add(ATTEMPTS, 1, now=0, number=number)
        fixture.add(DELIVERIES, 1, now=0, number=number)
    fixture.buffer.drop([Partition(ATTEMPTS, 0), Partition(DELIVERIES, 0)])
    assert {record.partition.number for record in fixture.buffer.take(1000, now=LINGER_SECONDS)} == {1}


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(0, 1), st.integers(1, 150), st.integers(0, 400))))
def test_every_record_leaves_once_and_each_partition_in_order(
    steps: list[tuple[str, int, int, int]],
) -> None:
    fixture = BufferFixture()
    taken: list[Record] = []
    for second, (topic, number, count, most) in enumerate(steps):
        fixture.add(topic, count, second, number)
        taken += fixture.buffer.take(most, second)
    fixture.buffer.close()
    taken += fixture.buffer.take(MAX_BUFFERED_RECORDS, len(steps))
    assert sorted(record.offset for record in taken) == list(range(sum(step[2] for step in steps)))
    for partition in {record.partition for record in taken}:
        offsets = [record.offset for record in taken if record.partition == partition]
        assert offsets == sorted(offsets)
