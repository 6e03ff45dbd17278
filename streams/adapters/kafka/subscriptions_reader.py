"""Keep the view of webhooks by reading `subscriptions` from its start, without a group."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.adapters.kafka.broker_clock import BrokerClock
from streams.adapters.kafka.connection_errors import ConnectionErrors
from streams.adapters.kafka.end_offset import EndOffset, SubscriptionsReaderFailed
from streams.adapters.kafka.messages import LIBRDKAFKA, to_record
from streams.adapters.kafka.subscription_records import apply
from streams.core.delivery import SubscriptionsPosition
from streams.core.encryption import WRONG_KEYS
from streams.core.errors import InvalidRecord
from streams.core.subscription_record import key_of
from streams.core.subscriptions_table import SENTINEL_KEY, SubscriptionsTable
from streams.core.webhook import Webhook
from streams.ports import Clock, Codec, Record, Telemetry
from streams.topics import SUBSCRIPTIONS

POLL_SECONDS = 0.1
RECORDS_AT_ONCE = 500
# Whether the topic is the one that was read is looked after so often; one that stands still so often is given up.
WATCH_SECONDS = 5.0
STANDSTILLS = 3


class SubscriptionsReader:
    """`Subscriptions` and `Subscriptions` on Kafka; what was read is applied on the event loop.

    A stage that signs passes `opens_check`: it is not ready until a key of its own opens the check text.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        codec: Codec,
        telemetry: Telemetry,
        clock: Clock,
        opens_check: Callable[[str], bool] = lambda ciphertext: True,
    ) -> None:
        self.table = SubscriptionsTable(CompactSubscriptions(codec))
        self._config = dict(config)
        self._prefix = prefix
        self._codec = codec
        self._telemetry = telemetry
        self._broker_clock = BrokerClock(clock.now, self._notify_soon)
        self._opens_check = opens_check
        self._has_wrong_keys = False
        self._at_end = False
        self._moved = asyncio.Condition()
        self._applied = threading.Event()
        self._stopping = False
        self._away = False
        self._reasons = ConnectionErrors(lambda why: self._loop.call_soon_threadsafe(self._unavailable, why))
        self._end = EndOffset(config, prefix, telemetry)

    @property
    def is_ready(self) -> bool:
        """The end was reached, every webhook that the sentinel counted is there, and clock and keys are right."""
        is_trusted = self._broker_clock.is_trusted and not self._has_wrong_keys
        return self._at_end and self.table.is_complete() and is_trusted

    def readiness_problems(self) -> list[str]:
        """Why it cannot be relied on at the moment."""
        if problems := [*([WRONG_KEYS] if self._has_wrong_keys else []), *self._broker_clock.problems()]:
            return problems
        if not self.is_ready:
            return [f"the webhooks are not all read yet (topic {SUBSCRIPTIONS})"]
        return ["the broker does not say whether the webhooks are all read"] if self._end.is_away else []

    async def run(self) -> None:
        """Read until cancelled. Raises `SubscriptionsReaderFailed` when the topic was created anew."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        thread = threading.Thread(target=self._serve, name="kafka-view", daemon=True)
        thread.start()
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({self._finished, watching}, return_when=asyncio.FIRST_COMPLETED)
            await (self._finished if self._finished.done() else watching)
        finally:
            watching.cancel()
            self._stopping = True
            await asyncio.shield(asyncio.to_thread(thread.join))

    async def wait_until_read(self) -> None:
        """Wait until the end of the topic was reached once, complete or not."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._at_end)

    async def wait_until_ready(self) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self.is_ready)

    async def catch_up(self) -> SubscriptionsPosition:
        """Wait until every webhook whose record was appended by now is here; where the view then stands."""
        await self.wait_until_ready()
        # Read before the question: what is appended while it is answered is no sign of another topic.
        end = await self._end.beyond(self.table.position)
        if self.table.position < end:
            async with self._moved:
                await self._moved.wait_for(lambda: self.table.position >= end)
        return self.table.reached

    async def wait_for(self, seen: SubscriptionsPosition) -> None:
        """Wait until the view knows all that the writer of a delivery can have known."""
        if seen.incarnation != self.table.incarnation:
            # One of the two read a topic that is no more. If it was we, the end of this one tells.
            await self.catch_up()
            return
        if self.is_ready and self.table.has_reached(seen):
            return
        # Nobody has read beyond the end: a record that says so would wait for ever, and its partition with it.
        end = await self._end.beyond(self.table.position)
        known = SubscriptionsPosition(seen.incarnation, min(seen.offset, end))
        async with self._moved:
            await self._moved.wait_for(lambda: self.is_ready and self.table.has_reached(known))

    def find(self, webhook_id: str) -> Webhook | None:
        return self.table.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.table.of_account(account_id)

    async def _watch(self) -> None:
        """A consumer whose topic was made anew may stand still without a word: its leader's epoch began again."""
        await self.wait_until_read()
        standstills = 0
        while standstills < STANDSTILLS:
            read = self.table.position
            await asyncio.sleep(WATCH_SECONDS)
            end = await self._end.beyond(self.table.position)
            standstills = standstills + 1 if read == self.table.position < end else 0
        raise SubscriptionsReaderFailed(
            f"{SUBSCRIPTIONS} ends at {end}, and nothing behind {read} comes: it was made anew"
        )

    # -- the thread --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        outcome: Exception | None = None
        try:
            fixed = {"auto.offset.reset": "error", "error_cb": self._reasons, "logger": LIBRDKAFKA}
            consumer = Consumer({**self._config, **fixed})
            consumer.assign([TopicPartition(self._prefix + SUBSCRIPTIONS, 0, OFFSET_BEGINNING)])
            while not self._stopping:
                first = consumer.poll(POLL_SECONDS)
                if first is not None:
                    messages = [first, *consumer.consume(RECORDS_AT_ONCE - 1, 0)]
                    self._loop.call_soon_threadsafe(self._apply, messages)
                    self._wait_until_applied()
            consumer.close()
        except KafkaException as error:
            outcome = SubscriptionsReaderFailed(f"Kafka consumer of {SUBSCRIPTIONS}: {error}")
        except Exception as unexpected:
            # A thread that ended without a word would leave a process that knows of no more changes.
            outcome = unexpected
        self._loop.call_soon_threadsafe(self._finish, outcome)

    def _wait_until_applied(self) -> None:
        """A thread that runs ahead would heap up the whole topic, and the process would never give that memory back."""
        while not self._applied.wait(POLL_SECONDS) and not self._stopping:
            pass
        self._applied.clear()

    def _unavailable(self, error: KafkaError) -> None:
        if not self._away:
            self._away = True
            self._telemetry.info("broker unavailable; waiting", why=error.str())

    def _available(self) -> None:
        self._reasons.forget()
        self._away = False

    def _finish(self, error: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(error) if error else self._finished.set_result(None)

    def _apply(self, messages: Sequence[Message]) -> None:
        self._applied.set()
        # To go on without what could not be applied would be to lose a webhook silently.
        if self._finished.done():
            return
        try:
            self._apply_each(messages)
        except Exception as unexpected:
            self._finish(unexpected)
        self._telemetry.gauge("subscriptions_webhooks", len(self.table))
        self._notify_soon()

    def _apply_each(self, messages: Sequence[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                self._available()
                self._put(to_record(message, self._prefix))
            elif error.code() == KafkaError._PARTITION_EOF:
                self.table.skip((message.offset() or 0) - 1)
                self._reach_end()
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._finish(SubscriptionsReaderFailed(f"{SUBSCRIPTIONS}: {error}; it was made anew"))

    def _notify_soon(self) -> None:
        task = self._loop.create_task(self._notify())
        task.add_done_callback(lambda done: done.exception())

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _reach_end(self) -> None:
        if not self._at_end:
            self._broker_clock.reach_end()
        self._at_end = True

    def _put(self, record: Record) -> None:
        known = self.table.incarnation
        try:
            apply(self.table, self._codec, record)
        except InvalidRecord as wrong:
            key = key_of(record.key)
            self.table.spoil(record.offset, key)
            self._telemetry.count("subscriptions_invalid_total")
            self._telemetry.warning("subscription_unreadable", webhook_id=key, offset=record.offset, why=str(wrong))
            return
        if key_of(record.key) == SENTINEL_KEY:
            if self._at_end and known not in ("", self.table.incarnation):
                raise SubscriptionsReaderFailed(
                    f"{SUBSCRIPTIONS} has another incarnation than what was read: it was made anew"
                )
            self._broker_clock.compare(record.appended_at, at_end=self._at_end)
            check = self.table.sentinel.check if self.table.sentinel else None
            self._has_wrong_keys = check is not None and not self._opens_check(check)
