"""Consume as a member of a group: batches of records go to a handler on the event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.adapters.kafka.consuming.consumer_thread import ConsumerThread, offsets, rewind
from streams.adapters.kafka.consuming.consumer_watchdog import NewWatchdog
from streams.adapters.kafka.consuming.group_protocol import AUTO, GroupProtocol
from streams.adapters.kafka.consuming.membership import Membership
from streams.adapters.kafka.consuming.read_positions import ReadPositions
from streams.core.errors import Unavailable
from streams.core.records.offset_tracker import Commit
from streams.outage import BROKER, BROKER_AWAY, Outages
from streams.ports.kafka import Partition, Record, RecordHandler
from streams.ports.runtime import Telemetry

Argument = TypeVar("Argument")


class KafkaRecordConsumer:
    """A `RecordConsumer` of `topics`, whose names get `prefix`.

    With `is_sole_member`, the process is the only member of its group: it is not ready until it has every partition.
    `protocol` is the group's: `auto`, `consumer` or `classic`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Sequence[str],
        prefix: str,
        telemetry: Telemetry,
        outages: Outages,
        *,
        is_sole_member: bool = False,
        watchdog: NewWatchdog | None = None,
        protocol: str = AUTO,
    ) -> None:
        self._config = dict(config)
        self._topics = topics
        self._prefix = prefix
        self._telemetry = telemetry
        self._protocol = GroupProtocol(protocol)
        self._thread: ConsumerThread | None = None
        self._broker = outages[BROKER]
        self._is_id_in_use = False
        self._membership = Membership(is_sole_member=is_sole_member)
        self._positions = ReadPositions()
        self._watchdog = (
            watchdog(self._config["group.id"].removeprefix(prefix), self._readable_positions) if watchdog else None
        )

    async def run(self, handler: RecordHandler) -> None:
        """Pass records to `handler` until cancelled, then leave the group.

        Raises `ConsumerFailed` on a fatal error, `ConsumerStandsStill`, and the handler's exceptions.
        """
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._membership.begin()
        self._thread = ConsumerThread(self._config, self._protocol, self._topics, self._prefix, self)
        thread = threading.Thread(target=self._thread.run, name="kafka-consumer", daemon=True)
        thread.start()
        watch_task = asyncio.create_task(self._watch())
        try:
            await asyncio.shield(self._finished)
            if self._thread.is_stopping:
                # It has left its group. The caller of `leave` cancels this task.
                await self._loop.create_future()
        finally:
            watch_task.cancel()
            self._thread.stop()
            await _wait_uninterrupted(asyncio.to_thread(thread.join))

    async def _watch(self) -> None:
        if self._watchdog is None:
            return
        try:
            await self._watchdog.run()
        except Exception as error:
            self.on_finished(error)

    def _readable_positions(self) -> Mapping[Partition, int]:
        return {} if self.is_away else self._positions.readable_positions()

    def readiness_problems(self) -> list[str]:
        problems = ["the group still has a member of this instance id"] if self._is_id_in_use else []
        if self.is_away:
            return [*problems, BROKER_AWAY]
        return problems or self._membership.readiness_problems()

    def subscribe(self, partitions: Mapping[str, int]) -> None:
        """Read these topics from now on. `partitions` has the partition count of each."""
        self._membership.expect(sum(partitions.values()))
        topics = sorted(partitions)
        if topics == sorted(self._topics):
            return
        self._topics = topics
        if thread := self._thread:
            self._send_command(lambda consumer: thread.subscribe(consumer, topics))

    def leave(self) -> None:
        if self._thread is not None:
            self._thread.stop()

    # -- commands for the thread -----------------------------------------------------------------------------------

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None:
        self._positions.pause(partition, rewind_to)
        target = TopicPartition(self._prefix + partition.topic, partition.number)
        if rewind_to is not None:
            target.offset = rewind_to

        def command(consumer: Consumer) -> None:
            consumer.pause([target])
            if rewind_to is not None:
                rewind(consumer, target)

        self._send_command(command)

    def resume(self, partition: Partition) -> None:
        self._positions.resume(partition)
        if self._watchdog:
            self._watchdog.reset([partition])
        target = TopicPartition(self._prefix + partition.topic, partition.number)
        self._send_command(lambda consumer: consumer.resume([target]))

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        """Commit and wait for the broker's response. Raises `Unavailable` if it refuses."""
        commit_future: asyncio.Future[None] = self._loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if not commit_future.done():
                commit_future.set_exception(Unavailable(error.str())) if error else commit_future.set_result(None)

        thread, ends = self._thread, offsets(self._prefix, commits)
        if self._finished.done() or thread is None or thread.is_stopping:
            raise Unavailable("the consumer is closed")
        self._send_command(lambda consumer: thread.commit(consumer, ends, partial(self.tell_loop, settle)))
        # If the thread ends meanwhile, it runs no more commands.
        await asyncio.wait({commit_future, self._finished}, return_when=asyncio.FIRST_COMPLETED)
        if not commit_future.done():
            raise Unavailable("the consumer is closed")
        await commit_future

    def _send_command(self, command: Callable[[Consumer], None]) -> None:
        if self._thread is not None:
            self._thread.commands.append(command)

    # -- called on the thread --------------------------------------------------------------------------------------

    def tell_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)

    def ask_handler(
        self, partitions: Sequence[Partition], *, is_lost: bool, seconds: float
    ) -> Mapping[Partition, Commit]:
        """Wait for the handler to finish with these partitions. Returns the last commits."""
        self.tell_loop(partial(self._revoked, partitions, is_lost=is_lost))
        revocation = asyncio.run_coroutine_threadsafe(self._handler.on_revoked(partitions, is_lost=is_lost), self._loop)
        return revocation.result(seconds)

    # -- called on the event loop ----------------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._is_id_in_use = False
        self._membership.on_assigned(partitions)
        self._positions.on_assigned(partitions)
        if self._watchdog:
            self._watchdog.reset(partitions)
        self._call_handler(self._handler.on_assigned, partitions)

    def _revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> None:
        self._membership.on_revoked(partitions, is_lost=is_lost)
        self._positions.on_revoked(partitions, is_lost=is_lost)

    def on_received(self, records: Sequence[Record]) -> None:
        self._positions.on_received(records)
        self._call_handler(self._handler.on_received, records)
        self.on_available()

    def _call_handler(self, call: Callable[[Argument], None], message: Argument) -> None:
        # After a failure of the handler, a later commit would include the records that it missed.
        if self._finished.done():
            return
        try:
            call(message)
        except Exception as error:
            self.on_finished(error)

    def on_available(self) -> None:
        self._broker.end(self)

    @property
    def is_away(self) -> bool:
        return self in self._broker

    def on_unavailable(self, error: KafkaError) -> None:
        self._broker.begin(self, error.str())

    def on_instance_id_in_use(self) -> None:
        if not self._is_id_in_use:
            self._is_id_in_use = True
            self._telemetry.warning("instance_id_in_use")

    def on_classic_protocol(self) -> None:
        self._telemetry.warning(
            "group_protocol_classic",
            group=self._config["group.id"],
            why="the broker does not have the protocol of KIP-848",
            effect="each rebalance stops all members of the group for a moment",
        )

    def on_last_commit_failed(self, error: str) -> None:
        self._telemetry.warning(
            "last_commit_failed", why=error, effect="the records of revoked partitions are repeated"
        )

    def on_finished(self, error: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(error) if error else self._finished.set_result(None)


async def _wait_uninterrupted(awaitable: Awaitable[None]) -> None:
    """Wait even while this task is cancelled: the thread needs the event loop to leave the group."""
    task = asyncio.ensure_future(awaitable)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
