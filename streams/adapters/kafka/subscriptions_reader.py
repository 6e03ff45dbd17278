"""Keep the table of webhooks by reading the topic `subscriptions`."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message

from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.adapters.kafka.broker_clock import BrokerClock
from streams.adapters.kafka.consumer_watchdog import NewWatchdog
from streams.adapters.kafka.end_offset import EndOffset, SubscriptionsReaderFailed
from streams.adapters.kafka.messages import to_record
from streams.adapters.kafka.sentinel_check import SentinelCheck
from streams.adapters.kafka.subscription_records import apply_record
from streams.adapters.kafka.subscriptions_thread import SubscriptionsThread
from streams.core.delivery import SubscriptionsPosition
from streams.core.errors import ROW_ERRORS, NewerRecord
from streams.core.subscription_record import key_of
from streams.core.subscriptions_table import SENTINEL_KEY, SubscriptionsTable
from streams.core.webhook import Webhook
from streams.outage import BROKER, BROKER_AWAY, Outages
from streams.ports import Clock, Codec, Partition, Record, Telemetry
from streams.tasks import run_until_first_ends
from streams.topics import SUBSCRIPTIONS

WATCH_INTERVAL_SECONDS = 5.0


class SubscriptionsReader:
    """`Subscriptions` on Kafka.

    A stage that signs passes `can_decrypt_check`: it is not ready until one of its keys decrypts the check text.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        codec: Codec,
        telemetry: Telemetry,
        clock: Clock,
        outages: Outages,
        can_decrypt_check: Callable[[str], bool] = lambda ciphertext: True,
        watchdog: NewWatchdog | None = None,
    ) -> None:
        self.table = SubscriptionsTable(CompactSubscriptions(codec))
        self._prefix = prefix
        self._codec = codec
        self._telemetry = telemetry
        self._broker = outages[BROKER]
        self._sentinel = SentinelCheck(BrokerClock(clock.now, self._notify_soon), can_decrypt_check, outages)
        self._thread = SubscriptionsThread(config, prefix + SUBSCRIPTIONS, self._on_messages, self._on_outage)
        self._end = EndOffset(config, prefix, outages)
        self._watchdog = watchdog(SUBSCRIPTIONS, self._readable_positions) if watchdog else None
        self._table_changed = asyncio.Condition()
        # When the question was asked up to whose answer everything is read.
        self._caught_up_asked_at = -math.inf

    @property
    def is_ready(self) -> bool:
        """Every webhook that the sentinel counted was read to the end of the topic, and clock and keys are right."""
        return (
            self._sentinel.is_at_end
            and self.table.is_complete()
            and self.table.is_readable()
            and self._sentinel.is_trusted
        )

    def readiness_problems(self) -> list[str]:
        """Why the table cannot be relied on at the moment."""
        if problems := self._sentinel.problems():
            return problems
        if not self.is_ready and (newer_count := len(self.table.newer_release_ids)):
            return [f"{SUBSCRIPTIONS}: a newer release wrote the records of {newer_count} webhooks; upgrade this stage"]
        if not self.is_ready:
            return [f"the webhooks are not all read yet (topic {SUBSCRIPTIONS})"]
        return [BROKER_AWAY] if self._end.is_away else []

    async def run(self) -> None:
        """Read until cancelled. Raises `SubscriptionsReaderFailed` when the topic was recreated.

        Raises `ConsumerStandsStill` where a watchdog is given.
        """
        watchdogs = [self._watchdog.run] if self._watchdog else []
        await run_until_first_ends(self._thread.run, self._watch_end, *watchdogs)

    async def wait_until_read(self) -> None:
        """Wait until the end of the topic was reached once, complete or not."""
        await self._wait_until(lambda: self._sentinel.is_at_end)

    async def wait_until_ready(self) -> None:
        await self._wait_until(lambda: self.is_ready)

    async def catch_up(self, ago: float = 0.0) -> SubscriptionsPosition:
        """Wait until every record is read that was on the topic `ago` seconds ago. Returns the position reached."""
        await self.wait_until_ready()
        asked_at = time.monotonic()
        if asked_at - self._caught_up_asked_at >= ago:
            end = await self._end_offset()
            # A record that was read meanwhile may be one of a newer release.
            if not self.is_ready or self.table.position < end:
                await self._wait_until(lambda: self.is_ready and self.table.position >= end)
            self._caught_up_asked_at = asked_at
        return self.table.reached_position

    async def wait_for(self, position: SubscriptionsPosition) -> None:
        """Wait until the table knows all that the writer of a delivery can have known."""
        if position.incarnation != self.table.incarnation:
            # The writer or this process read a topic that no longer exists. The end of the topic tells which.
            await self.catch_up()
            return
        if self.is_ready and self.table.has_reached(position):
            return
        # No process has read beyond the end. Waiting for such a position would block the partition forever.
        end = await self._end_offset()
        reachable = SubscriptionsPosition(position.incarnation, min(position.offset, end))
        await self._wait_until(lambda: self.is_ready and self.table.has_reached(reachable))

    def find(self, webhook_id: str) -> Webhook | None:
        return self.table.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.table.of_account(account_id)

    def count_of_account(self, account_id: str) -> int:
        return self.table.count_of_account(account_id)

    async def _watch_end(self) -> None:
        """Ask for the end again and again: it is before the position after the topic was recreated."""
        await self.wait_until_read()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
            await self._end_offset()

    def _readable_positions(self) -> Mapping[Partition, int]:
        return {} if self in self._broker else {Partition(SUBSCRIPTIONS, 0): self.table.position}

    async def _end_offset(self) -> int:
        # The position is read before the question: what is appended meanwhile is no sign of another topic.
        end = await self._end.find_end(self.table.position)
        # A consumer at the end of the topic hears nothing that would tell it that the broker is back.
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

    # -- what the thread reads -------------------------------------------------------------------------------------

    def _on_outage(self, error: KafkaError) -> None:
        self._broker.begin(self, error.str())

    def _on_messages(self, messages: Sequence[Message]) -> None:
        try:
            for message in messages:
                self._handle_message(message)
        finally:
            self._telemetry.gauge("subscriptions_webhooks", len(self.table))
            self._notify_soon()

    def _handle_message(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._broker.end(self)
            self._apply(to_record(message, self._prefix))
        elif error.code() == KafkaError._PARTITION_EOF:
            self._broker.end(self)
            self.table.skip((message.offset() or 0) - 1)
            self._sentinel.reach_end()
        elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise SubscriptionsReaderFailed(f"{SUBSCRIPTIONS}: {error}; the topic was recreated")

    def _apply(self, record: Record) -> None:
        try:
            apply_record(self.table, self._codec, record)
        except ROW_ERRORS as error:
            key = key_of(record.key)
            self.table.skip_invalid(record.offset, key, is_newer_release=isinstance(error, NewerRecord))
            self._telemetry.count("subscriptions_invalid_total")
            self._telemetry.warning("subscription_invalid", webhook_id=key, offset=record.offset, why=str(error))
            return
        if key_of(record.key) == SENTINEL_KEY and self.table.sentinel:
            self._sentinel.compare(self.table.sentinel, record.appended_at)
            self._telemetry.gauge("clock_skew_seconds", self._sentinel.skew_seconds)
