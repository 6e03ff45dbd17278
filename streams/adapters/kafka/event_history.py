"""Read the past of `session-events` by time, without a consumer group."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.kafka.connection.transient_errors import require_accepted
from streams.adapters.kafka.consuming.messages import to_record
from streams.adapters.kafka.lone_consumers import LoneConsumers
from streams.adapters.kafka.partition_bounds import partition_bounds
from streams.adapters.threads import run_in_daemon_thread
from streams.core.deliveries.backfill import OffsetRange, Period
from streams.core.errors import Unavailable
from streams.ports.kafka import HistoryPortion, Record
from streams.topics import SESSION_EVENTS

REQUEST_SECONDS = 10.0
# A portion that takes longer ends early.
MAX_PORTION_SECONDS = 2.0
MAX_PORTION_BYTES = 4 * 1024 * 1024
# Leaders' clocks differ, so a record of the period may come after a later one.
MAX_CLOCK_DIFFERENCE = timedelta(minutes=1)

Bounds = Mapping[int, tuple[int, int]]


class KafkaEventHistory:
    """An `EventHistory`. Each call opens a consumer of its own on a thread, and closes it."""

    def __init__(self, properties: Mapping[str, Any], prefix: str) -> None:
        self._consumers = LoneConsumers(properties)
        self._prefix = prefix
        self._topic = prefix + SESSION_EVENTS

    async def period(self, since: datetime, until: datetime) -> Period:
        return await run_in_daemon_thread(partial(self._period, since, until + MAX_CLOCK_DIFFERENCE))

    async def read(self, ranges: Sequence[OffsetRange], limit: int) -> HistoryPortion:
        return await run_in_daemon_thread(partial(self._read, ranges, limit))

    # -- a period --------------------------------------------------------------------------------------------------

    def _period(self, since: datetime, until: datetime) -> Period:
        with self._consumers.open() as consumer:
            bounds = {number: ends for number, ends in self._bounds(consumer).items() if ends[0] < ends[1]}
            if not bounds:
                return Period((), None)
            starts, ends = self._first_offsets(consumer, since, bounds), self._first_offsets(consumer, until, bounds)
            ranges = tuple(
                # The embedded broker has no append times, so the period is everything.
                OffsetRange(number, starts.get(number, low), ends.get(number, high))
                for number, (low, high) in bounds.items()
            )
            return Period(ranges, self._oldest_append_time(consumer, bounds))

    def _bounds(self, consumer: Consumer) -> Bounds:
        return partition_bounds(consumer, self._topic)

    def _first_offsets(self, consumer: Consumer, at: datetime, bounds: Bounds) -> dict[int, int]:
        """The first offset of each partition that was appended then or later; the partition's end if there is none.

        Omits partitions of a broker without append times.
        """
        offsets = self._offsets_for_time(consumer, ceil(at.timestamp() * 1000), bounds)
        end_partitions = [number for number, offset in offsets.items() if offset == OFFSET_END]
        # Each partition has a record since 1970, unless the broker answers "none" to every request.
        earliest_offsets = self._offsets_for_time(consumer, 0, end_partitions) if end_partitions else {}
        for number in end_partitions:
            offsets.pop(number)
            if earliest_offsets[number] != OFFSET_END:
                offsets[number] = bounds[number][1]
        return offsets

    def _offsets_for_time(
        self, consumer: Consumer, timestamp_ms: int, partitions: Sequence[int] | Bounds
    ) -> dict[int, int]:
        partition_times = [TopicPartition(self._topic, number, timestamp_ms) for number in partitions]
        answers = require_accepted(consumer.offsets_for_times(partition_times, REQUEST_SECONDS))
        return {answer.partition: int(answer.offset) for answer in answers}

    def _oldest_append_time(self, consumer: Consumer, bounds: Bounds) -> datetime | None:
        """The append time of the oldest record. If retention has deleted some, the latest first record of a partition
        counts.
        """
        start_offsets = {number: low for number, (low, _) in bounds.items()}
        first_times: dict[int, datetime] = {}
        for message in self._messages(consumer, start_offsets, time.monotonic() + REQUEST_SECONDS):
            if (record := self._record(message)) is not None:
                first_times.setdefault(number := record.partition.number, record.appended_at)
                consumer.pause([TopicPartition(self._topic, number)])
            if len(first_times) == len(bounds):
                break
        truncated_times = [at for number, at in first_times.items() if start_offsets[number] > 0]
        return max(truncated_times) if truncated_times else min(first_times.values(), default=None)

    # -- records ---------------------------------------------------------------------------------------------------

    def _read(self, ranges: Sequence[OffsetRange], limit: int) -> HistoryPortion:
        with self._consumers.open() as consumer:
            bounds, positions = self._bounds(consumer), dict[int, int]()
            starts, ends = dict[int, int](), dict[int, int]()
            for offset_range in ranges:
                low, high = bounds.get(offset_range.partition, (0, 0))
                start, ends[offset_range.partition] = max(offset_range.start, low), offset_range.end
                # Offsets that retention deleted, or that were on an earlier topic, do not exist any more.
                if start < min(offset_range.end, high):
                    starts[offset_range.partition] = start
                else:
                    positions[offset_range.partition] = offset_range.end
            records = self._collect(consumer, starts, ends, positions, limit) if starts else []
            return HistoryPortion(records, positions)

    def _collect(
        self,
        consumer: Consumer,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        positions: dict[int, int],
        limit: int,
    ) -> list[Record]:
        """Records of several partitions. Sets the next offset of each in `positions`."""
        records: list[Record] = []
        size, unread_partitions = 0, set(starts)
        for message in self._messages(consumer, starts, time.monotonic() + MAX_PORTION_SECONDS):
            number, record = message.partition(), self._record(message)
            assert number is not None
            if number not in unread_partitions:
                continue
            if record is None or record.offset >= ends[number]:
                positions[number] = ends[number]
            else:
                records.append(record)
                positions[number] = record.offset + 1
                size += len(record.value or b"")
            if positions[number] >= ends[number]:
                unread_partitions.discard(number)
            if not unread_partitions or len(records) >= limit or size >= MAX_PORTION_BYTES:
                break
        return records

    def _messages(self, consumer: Consumer, starts: Mapping[int, int], deadline: float) -> Iterator[Message]:
        """Messages and ends of partitions from these offsets. The first message has more time than the deadline."""
        consumer.assign([TopicPartition(self._topic, number, start) for number, start in starts.items()])
        if (first := consumer.poll(REQUEST_SECONDS)) is None:
            raise Unavailable(f"Kafka does not return the records of {self._topic}")
        yield first
        while time.monotonic() < deadline:
            # `consume` alone would wait for the whole number of records.
            if (first := consumer.poll(0.1)) is not None:
                yield first

    def _record(self, message: Message) -> Record | None:
        """The record of a message; None for the end of its partition."""
        error = message.error()
        if error is None:
            return to_record(message, self._prefix)
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        raise KafkaException(error)
