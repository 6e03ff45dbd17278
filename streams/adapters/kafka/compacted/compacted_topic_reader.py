"""Read a compacted topic from its start to its end, then follow it; the base of the `subscriptions` and `erasures`
readers.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message

from streams.adapters.kafka.compacted.compacted_topic_thread import MAX_POLL_RECORDS, CompactedTopicThread
from streams.adapters.kafka.compacted.end_offset import EndOffset, TopicReaderFailed
from streams.adapters.kafka.compacted.sentinel_check import SentinelCheck
from streams.adapters.kafka.consuming.consumer_watchdog import NewWatchdog
from streams.adapters.kafka.consuming.messages import to_record
from streams.core.errors import ROW_ERRORS, NewerRecord
from streams.core.records.compacted_table import SENTINEL_KEY, CompactedTable, key_of
from streams.outage import BROKER, BROKER_AWAY, Outages
from streams.ports.kafka import Partition, Record
from streams.tasks import run_until_first_ends

WATCH_INTERVAL_SECONDS = 5.0
_SENTINEL_KEY = SENTINEL_KEY.encode()


class CompactedTopicReader(ABC):
    """Fills a table from a topic of one partition. It is ready only at the end, with all keys that the sentinel counts.

    The subclass fills `table` and checks `sentinel`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        topic: str,
        table: CompactedTable,
        sentinel: SentinelCheck,
        outages: Outages,
        watchdog: NewWatchdog | None = None,
        batch_records: int = MAX_POLL_RECORDS,
    ) -> None:
        self._topic = topic
        self._prefix = prefix
        self._read_table = table
        self._sentinel = sentinel
        self._broker = outages[BROKER]
        self._thread = CompactedTopicThread(config, prefix + topic, self._on_messages, self._on_outage, batch_records)
        self._end = EndOffset(config, prefix + topic, outages)
        self._watchdog = watchdog(topic, self._readable_positions) if watchdog else None
        self._table_changed = asyncio.Condition()
        # When the end was last requested; every record before that end is read.
        self._caught_up_asked_at = -math.inf

    @property
    def is_ready(self) -> bool:
        """Whether every key that the sentinel counts was read to the topic's end, and the sentinel is trusted."""
        table = self._read_table
        return self._sentinel.is_at_end and table.is_complete() and table.is_readable() and self._sentinel.is_trusted

    def readiness_problems(self) -> list[str]:
        """Why the table cannot be relied on at the moment."""
        if problems := self._sentinel.problems():
            return problems
        if not self.is_ready:
            return [self._unready_reason()]
        return [BROKER_AWAY] if self._end.is_away else []

    @abstractmethod
    def _unready_reason(self) -> str:
        """Why the table is not complete, or not readable."""

    @abstractmethod
    def _apply_record(self, record: Record) -> None:
        """Apply a record to the table. Raises one of `ROW_ERRORS` for a record that it skips."""

    @abstractmethod
    def _on_invalid(self, record: Record, error: Exception) -> None:
        """Count and log a record that was skipped."""

    @abstractmethod
    def _expose_size(self) -> None: ...

    def _on_sentinel(self, record: Record) -> None:
        """Take the sentinel that was read."""
        if self._read_table.sentinel:
            self._sentinel.compare(self._read_table.sentinel, record.appended_at)

    async def run(self) -> None:
        """Read until cancelled. Raises `TopicReaderFailed` if the topic was recreated.

        Raises `ConsumerStandsStill` if a watchdog is given.
        """
        watchdogs = [self._watchdog.run] if self._watchdog else []
        await run_until_first_ends(self._thread.run, self._watch_end, *watchdogs)

    async def wait_until_read(self) -> None:
        """Wait until the end of the topic was reached once, complete or not."""
        await self._wait_until(lambda: self._sentinel.is_at_end)

    async def wait_until_ready(self) -> None:
        await self._wait_until(lambda: self.is_ready)

    async def _catch_up(self, ago: float = 0.0) -> None:
        """Wait until every record that was on the topic `ago` seconds ago is read."""
        await self.wait_until_ready()
        asked_at = time.monotonic()
        if asked_at - self._caught_up_asked_at >= ago:
            end = await self._end_offset()
            # A record that was read meanwhile may be from a newer release.
            if not self.is_ready or self._read_table.position < end:
                await self._wait_until(lambda: self.is_ready and self._read_table.position >= end)
            self._caught_up_asked_at = asked_at

    async def _watch_end(self) -> None:
        """Request the end repeatedly: in a recreated topic it is before the position."""
        await self.wait_until_read()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
            await self._end_offset()

    def _readable_positions(self) -> Mapping[Partition, int]:
        return {} if self in self._broker else {Partition(self._topic, 0): self._read_table.position}

    async def _end_offset(self) -> int:
        # Read the position before the request: with a later one, the topic would seem to be recreated.
        end = await self._end.find_end(self._read_table.position)
        # A consumer at the end of the topic gets no event when the broker is back.
        self._broker.end(self)
        return end

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        async with self._table_changed:
            await self._table_changed.wait_for(condition)

    def _notify_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._notify())
        task.add_done_callback(lambda done_task: done_task.exception())

    async def _notify(self) -> None:
        async with self._table_changed:
            self._table_changed.notify_all()

    # -- records that the thread reads -----------------------------------------------------------------------------

    def _on_outage(self, error: KafkaError) -> None:
        self._broker.begin(self, error.str())

    def _on_messages(self, messages: Sequence[Message]) -> None:
        try:
            if any(message.error() is None for message in messages):
                self._broker.end(self)
            for message in messages:
                self._handle_message(message)
        finally:
            self._expose_size()
            self._notify_soon()

    def _handle_message(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._apply(self._to_record(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            self._broker.end(self)
            self._read_table.skip((message.offset() or 0) - 1)
            self._sentinel.on_end_reached()
        elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise TopicReaderFailed(f"{self._topic}: {error}; the topic was recreated")

    def _apply(self, record: Record) -> None:
        try:
            self._apply_record(record)
        except ROW_ERRORS as error:
            is_newer_release = isinstance(error, NewerRecord)
            self._read_table.skip_invalid(record.offset, key_of(record.key), is_newer_release=is_newer_release)
            self._on_invalid(record, error)
            return
        if record.key == _SENTINEL_KEY:
            self._on_sentinel(record)

    def _to_record(self, message: Message) -> Record:
        return to_record(message, self._prefix)
