"""Read a consumer group's records on a thread of their own, and hand them to the event loop in lists."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.core.errors import ScormWebhooksError, Unavailable
from streams.core.ledger import Commit
from streams.ports import FeedHandler, Partition, Record, Report

POLL_SECONDS = 0.02
RECORDS_AT_ONCE = 500
ASK_EVERY_SECONDS = 1.0
# What a handler may take for a revocation, plus room for the commit behind it.
REVOKE_SECONDS = 8.0


class FeedBroken(ScormWebhooksError):
    """The consumer can do nothing more; the process must exit and start again."""


class KafkaFeed:
    """A `Feed` of a consumer group; `topics` names (without prefix) what to read and is asked again every minute."""

    def __init__(
        self, config: Mapping[str, Any], topics: Callable[[], Sequence[str]], prefix: str, report: Report
    ) -> None:
        self._config = dict(config)
        self._topics = topics
        self._prefix = prefix
        self._report = report
        self._consumer: Consumer | None = None
        self._commands: deque[Callable[[Consumer], None]] = deque()
        # Between a rewind's order and its execution stale records may still arrive: they are dropped here.
        self._rewinding: dict[Partition, int] = {}
        self._stopping = False
        self._told = False
        self._ask_at = 0.0

    async def run(self, handler: FeedHandler) -> None:
        """Feed `handler` until cancelled, then leave the group. Raises `FeedBroken` on what cannot heal."""
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        thread = threading.Thread(target=self._serve, name="kafka-feed", daemon=True)
        thread.start()
        try:
            await asyncio.shield(self._finished)
        finally:
            self._stopping = True
            await _uninterrupted(asyncio.to_thread(thread.join))

    def troubles(self) -> list[str]:
        """Why nothing can be read at the moment."""
        return ["the broker does not answer"] if self._told else []

    # -- orders from the loop ----------------------------------------------------------------------------------

    def pause(self, partition: Partition, rewind_to: int | None) -> None:
        self._rewinding[partition] = self._rewinding.get(partition, 0) + 1
        target = TopicPartition(self._prefix + partition.topic, partition.number, rewind_to or 0)

        def order(consumer: Consumer) -> None:
            try:
                consumer.pause([target])
                if rewind_to is not None:
                    consumer.seek(target)
            finally:
                self._loop.call_soon_threadsafe(self._rewound, partition)

        self._commands.append(order)

    def resume(self, partition: Partition) -> None:
        target = TopicPartition(self._prefix + partition.topic, partition.number)
        self._commands.append(lambda consumer: consumer.resume([target]))

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        """Commit and wait for the broker's word; raises `Unavailable` when it does not take it."""
        done: asyncio.Future[None] = self._loop.create_future()

        def settle(error: KafkaException | None) -> None:
            if not done.done():
                done.set_exception(Unavailable(str(error))) if error else done.set_result(None)

        def order(consumer: Consumer) -> None:
            try:
                consumer.commit(offsets=self._offsets(commits), asynchronous=False)
            except KafkaException as error:
                self._loop.call_soon_threadsafe(settle, error)
            else:
                self._loop.call_soon_threadsafe(settle, None)

        if self._stopping or self._finished.done():
            raise Unavailable("the consumer is closed")
        self._commands.append(order)
        await done

    def _rewound(self, partition: Partition) -> None:
        self._rewinding[partition] -= 1
        if not self._rewinding[partition]:
            del self._rewinding[partition]

    # -- the thread --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        outcome: ScormWebhooksError | None = None
        try:
            consumer = Consumer({**self._config, "error_cb": self._on_client_error})
            self._subscribe(consumer)
            while not self._stopping:
                self._obey(consumer)
                self._read(consumer)
                self._ask_again(consumer)
            self._obey(consumer)
            consumer.close()
        except (KafkaException, FeedBroken) as error:
            outcome = FeedBroken(f"Kafka consumer: {error}")
        self._loop.call_soon_threadsafe(self._finish, outcome)

    def _subscribe(self, consumer: Consumer) -> None:
        consumer.subscribe(
            [self._prefix + topic for topic in self._topics()],
            on_assign=self._on_assign,
            on_revoke=lambda consumer, partitions: self._on_revoke(consumer, partitions, lost=False),
            on_lost=lambda consumer, partitions: self._on_revoke(consumer, partitions, lost=True),
        )

    def _obey(self, consumer: Consumer) -> None:
        while self._commands:
            order = self._commands.popleft()
            try:
                order(consumer)
            except KafkaException as error:
                # A partition that was revoked meanwhile can neither be paused nor resumed, and need not be.
                if error.args[0].fatal():
                    raise

    def _read(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return
        messages = [first, *consumer.consume(RECORDS_AT_ONCE - 1, 0)]
        records = [self._record(message) for message in messages if self._is_good(message)]
        if records:
            self._loop.call_soon_threadsafe(self._hand_over, records)

    def _ask_again(self, consumer: Consumer) -> None:
        """While the broker is away nothing arrives that would tell that it is back."""
        if self._told and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_EVERY_SECONDS
            with suppress(KafkaException):
                consumer.list_topics(timeout=ASK_EVERY_SECONDS)
                self._loop.call_soon_threadsafe(self._available)

    def _is_good(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise FeedBroken(str(error))
        self._on_error(error)
        return False

    def _record(self, message: Message) -> Record:
        return to_record(message, self._prefix)

    def _hand_over(self, records: Sequence[Record]) -> None:
        self._available()
        if self._rewinding:
            records = [record for record in records if record.partition not in self._rewinding]
        self._handler.received(records)

    def _on_client_error(self, error: KafkaError) -> None:
        # One broker's connection comes and goes; that all of them are gone is an outage.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        self._loop.call_soon_threadsafe(self._take_note, error)

    def _available(self) -> None:
        if self._told:
            self._told = False
            self._report.tell("broker available again")

    def _take_note(self, error: KafkaError) -> None:
        if not self._told:
            self._told = True
            self._report.tell("broker unavailable; waiting", why=str(error))

    def _finish(self, error: ScormWebhooksError | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(error) if error else self._finished.set_result(None)

    # -- the group ---------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        committed: Mapping[Partition, Commit | None] = {self._partition(tp): None for tp in assigned}
        if assigned:
            try:
                committed = {self._partition(tp): _commit_of(tp) for tp in consumer.committed(assigned, timeout=10)}
            except KafkaException as error:
                # Only the bitmap is missed: what it names is done once more, from the same offset on.
                self._on_error(error.args[0])
        self._loop.call_soon_threadsafe(self._handler.assigned, committed)

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition], *, lost: bool) -> None:
        partitions = [self._partition(tp) for tp in revoked]
        finishing = asyncio.run_coroutine_threadsafe(self._handler.revoked(partitions, lost=lost), self._loop)
        try:
            commits = finishing.result(REVOKE_SECONDS)
            if commits and not lost:
                consumer.commit(offsets=self._offsets(commits), asynchronous=False)
        except (TimeoutError, KafkaException) as error:
            self._loop.call_soon_threadsafe(self._report.tell, "last commit failed; its records are repeated")
            if isinstance(error, KafkaException) and error.args[0].fatal():
                raise

    def _partition(self, tp: TopicPartition) -> Partition:
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)

    def _offsets(self, commits: Mapping[Partition, Commit]) -> list[TopicPartition]:
        return [
            TopicPartition(self._prefix + partition.topic, partition.number, commit.offset, commit.metadata)
            for partition, commit in commits.items()
        ]


def to_record(message: Message, prefix: str) -> Record:
    """A librdkafka message as a record of ours."""
    topic, number, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and number is not None and offset is not None
    return Record(
        partition=Partition(topic.removeprefix(prefix), number),
        offset=offset,
        key=message.key(),
        value=message.value(),
        appended_at=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
        headers=tuple(message.headers() or ()),
    )


def _commit_of(tp: TopicPartition) -> Commit | None:
    return Commit(tp.offset, tp.metadata or "") if tp.offset >= 0 else None


async def _uninterrupted(ending: Awaitable[None]) -> None:
    """Wait for an ending even while this task is being cancelled: leaving a group takes the loop's help."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
