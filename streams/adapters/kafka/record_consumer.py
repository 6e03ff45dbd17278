"""A consumer group's records, handed to the event loop in lists, with pauses that rewind."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.adapters.kafka.consumer_thread import ConsumerThread, offsets
from streams.adapters.kafka.membership import Membership
from streams.core.errors import Unavailable
from streams.core.offset_tracker import Commit
from streams.ports import Partition, Record, RecordHandler, Telemetry

News = TypeVar("News")


class KafkaRecordConsumer:
    """A `RecordConsumer`; `topics` names what to read, `prefix` is put before each name.

    The only member of its group (`sole_member`) is not ready until it has every partition.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Sequence[str],
        prefix: str,
        telemetry: Telemetry,
        *,
        sole_member: bool = False,
    ) -> None:
        self._config = dict(config)
        self._topics = topics
        self._prefix = prefix
        self._telemetry = telemetry
        self._thread: ConsumerThread | None = None
        self._away = False
        self._name_taken = False
        self._membership = Membership(sole_member=sole_member)

    async def run(self, handler: RecordHandler) -> None:
        """Feed `handler` until cancelled, then leave the group.

        Raises `ConsumerFailed` on what cannot heal, and whatever the handler raised.
        """
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._membership.begin()
        self._thread = ConsumerThread(self._config, self._topics, self._prefix, self)
        thread = threading.Thread(target=self._thread.run, name="kafka-feed", daemon=True)
        thread.start()
        try:
            await asyncio.shield(self._finished)
        finally:
            self._thread.stop()
            await _uninterrupted(asyncio.to_thread(thread.join))

    def readiness_problems(self) -> list[str]:
        """Why nothing can be read at the moment."""
        waiting = ["the group still has a member of this instance id"] if self._name_taken else []
        if self._away:
            return [*waiting, "the broker does not answer"]
        return waiting or self._membership.readiness_problems()

    def subscribe(self, partitions: Mapping[str, int]) -> None:
        """Read these topics, given with their partitions, from now on; what is read already goes on undisturbed."""
        self._membership.expect(sum(partitions.values()))
        topics = sorted(partitions)
        if topics == sorted(self._topics):
            return
        self._topics = topics
        if thread := self._thread:
            self._order(lambda consumer: thread.subscribe(consumer, topics))

    # -- orders for the thread ---------------------------------------------------------------------------------

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None:
        target = TopicPartition(self._prefix + partition.topic, partition.number)
        if rewind_to is not None:
            target.offset = rewind_to

        def order(consumer: Consumer) -> None:
            consumer.pause([target])
            if rewind_to is not None:
                consumer.seek(target)

        self._order(order)

    def resume(self, partition: Partition) -> None:
        target = TopicPartition(self._prefix + partition.topic, partition.number)
        self._order(lambda consumer: consumer.resume([target]))

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        """Commit and wait for the broker's word; raises `Unavailable` when it does not take it."""
        done: asyncio.Future[None] = self._loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if not done.done():
                done.set_exception(Unavailable(error.str())) if error else done.set_result(None)

        thread, ends = self._thread, offsets(self._prefix, commits)
        if self._finished.done() or thread is None or thread.stopping:
            raise Unavailable("the consumer is closed")
        self._order(lambda consumer: thread.commit(consumer, ends, partial(self.tell_loop, settle)))
        # A thread that ends meanwhile obeys no more orders.
        await asyncio.wait({done, self._finished}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise Unavailable("the consumer is closed")
        await done

    def _order(self, order: Callable[[Consumer], None]) -> None:
        if self._thread is not None:
            self._thread.orders.append(order)

    # -- what the thread tells, from its side ------------------------------------------------------------------

    def tell_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)

    def ask_handler(self, partitions: Sequence[Partition], *, lost: bool, seconds: float) -> Mapping[Partition, Commit]:
        """Wait, on the thread, for the handler to finish with these partitions; what to commit last."""
        self.tell_loop(self._membership.revoked, partitions)
        finishing = asyncio.run_coroutine_threadsafe(self._handler.revoked(partitions, lost=lost), self._loop)
        return finishing.result(seconds)

    # -- the same, on the loop ---------------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._name_taken = False
        self._membership.assigned(partitions)
        self._tell_handler(self._handler.assigned, partitions)

    def received(self, records: Sequence[Record]) -> None:
        self._tell_handler(self._handler.received, records)
        self.available()

    def _tell_handler(self, tell: Callable[[News], None], news: News) -> None:
        # To go on without what a failing handler was told would be to commit past it.
        if self._finished.done():
            return
        try:
            tell(news)
        except Exception as unexpected:
            self.finished(unexpected)

    def available(self) -> None:
        if self._away:
            self._away = False
            self._telemetry.info("broker available again")

    @property
    def is_away(self) -> bool:
        return self._away

    def unavailable(self, error: KafkaError) -> None:
        if not self._away:
            self._away = True
            self._telemetry.info("broker unavailable; waiting", why=error.str())

    def name_taken(self) -> None:
        if not self._name_taken:
            self._name_taken = True
            self._telemetry.info("the group still has a member of this instance id; waiting until it is given up")

    def last_commit_failed(self, error: str) -> None:
        self._telemetry.info("the last commit of revoked partitions failed; their records are repeated", why=error)

    def finished(self, error: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(error) if error else self._finished.set_result(None)


async def _uninterrupted(ending: Awaitable[None]) -> None:
    """Wait for an ending even while this task is being cancelled: leaving a group takes the loop's help."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
