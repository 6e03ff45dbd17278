"""The thread that polls a consumer group: it obeys orders, reads, and sees partitions come and go."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.kafka.connection_errors import ConnectionErrors
from streams.adapters.kafka.messages import LIBRDKAFKA, commit_of, to_record
from streams.core.errors import ScormWebhooksError
from streams.core.offset_tracker import Commit
from streams.ports import Partition, Record

POLL_SECONDS = 0.02
# The loop reads them all before it does anything else.
RECORDS_AT_ONCE = 100
ASK_EVERY_SECONDS = 1.0
# What a handler may take for a revocation, plus room for the commit behind it.
REVOKE_SECONDS = 8.0

Order = Callable[[Consumer], None]
# Is told how a commit ended.
Settle = Callable[[KafkaError | None], None]
# Topic, partition, offset.
PartitionEnd = tuple[str, int, int]


class ConsumerFailed(ScormWebhooksError):
    """The consumer can do nothing more; the process must exit and start again."""


class _InstanceInUse(ConsumerFailed):
    """A member of our static name is still in the group."""


class Listener(Protocol):
    """Who is told; all but the first two are called on the event loop, through `tell_loop`."""

    def tell_loop(self, callback: Callable[..., None], *arguments: object) -> None: ...

    def ask_handler(
        self, partitions: Sequence[Partition], *, lost: bool, seconds: float
    ) -> Mapping[Partition, Commit]: ...

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None: ...

    def received(self, records: Sequence[Record]) -> None: ...

    def available(self) -> None: ...

    def unavailable(self, error: KafkaError) -> None: ...

    def name_taken(self) -> None: ...

    def last_commit_failed(self, error: str) -> None: ...

    def finished(self, error: Exception | None) -> None: ...

    @property
    def is_away(self) -> bool: ...


class ConsumerThread:
    """`run` is the thread's body; `orders` may be appended to from anywhere; `under_way` are the commits."""

    def __init__(self, config: Mapping[str, Any], topics: Sequence[str], prefix: str, listener: Listener) -> None:
        self._config = config
        self._topics = topics
        self._prefix = prefix
        self._listener = listener
        self._fatal: KafkaError | None = None
        self._reasons = ConnectionErrors(lambda why: listener.tell_loop(listener.unavailable, why))
        self._ask_at = 0.0
        # What was read is taken before more is read: nothing arrives that was to be paused, or waits without bound.
        self._taken = threading.Event()
        self._taken.set()
        self.under_way: list[tuple[frozenset[PartitionEnd], Settle]] = []
        self.orders: deque[Order] = deque()
        self.stopping = False

    def stop(self) -> None:
        """Leave the group and end, soon."""
        self.stopping = True

    def run(self) -> None:
        outcome: Exception | None = None
        try:
            while not self.stopping:
                try:
                    self._consume()
                except _InstanceInUse:
                    # Our predecessor of this name was killed: the broker keeps its place for a session timeout.
                    self._listener.tell_loop(self._listener.name_taken)
                    time.sleep(ASK_EVERY_SECONDS)
        except (KafkaException, ConsumerFailed) as error:
            outcome = ConsumerFailed(f"Kafka consumer: {error}")
        except Exception as unexpected:
            # A thread that ended without a word would leave a process that is ready and reads nothing.
            outcome = unexpected
        self._listener.tell_loop(self._listener.finished, outcome)

    def _consume(self) -> None:
        self._fatal = None
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit, "logger": LIBRDKAFKA}
        consumer = Consumer({**self._config, **callbacks})
        try:
            self.subscribe(consumer, self._topics)
            while not self.stopping:
                taken = self._taken.wait(POLL_SECONDS)
                self._obey(consumer)
                if taken:
                    self._read(consumer)
                self._ask_again(consumer)
                if self._fatal is not None:
                    in_use = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str() in self._fatal.str()
                    raise (_InstanceInUse if in_use else ConsumerFailed)(self._fatal)
            self._obey(consumer)
        finally:
            consumer.close()
            # A commit that is dropped on the way is answered too: somebody waits for it.
            for _, settle in self.under_way:
                settle(KafkaError(KafkaError._DESTROY))
            self.under_way.clear()

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Part of an order, too: with KIP-848 the partitions of topics that stay are not revoked."""
        self._topics = topics
        consumer.subscribe(
            [self._prefix + topic for topic in topics],
            on_assign=self._on_assign,
            on_revoke=lambda consumer, partitions: self._on_revoke(consumer, partitions, lost=False),
            on_lost=lambda consumer, partitions: self._on_revoke(consumer, partitions, lost=True),
        )

    def _obey(self, consumer: Consumer) -> None:
        while self.orders:
            # A partition that was revoked meanwhile can neither be paused nor resumed, and need not be.
            with suppress(KafkaException):
                self.orders.popleft()(consumer)

    def _read(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return
        messages = [first, *consumer.consume(RECORDS_AT_ONCE - 1, 0)]
        records = [to_record(message, self._prefix) for message in messages if self._is_good(message)]
        if records:
            self._taken.clear()
            self._listener.tell_loop(self._hand_over, records)

    def _hand_over(self, records: Sequence[Record]) -> None:
        try:
            self._listener.received(records)
        finally:
            self._taken.set()

    def _is_good(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise ConsumerFailed(str(error))
        else:
            self._listener.tell_loop(self._listener.unavailable, error)
        return False

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._FATAL:
            self._fatal = error
        else:
            self._reasons(error)

    def _ask_again(self, consumer: Consumer) -> None:
        """While the broker is away nothing arrives that would tell that it is back."""
        if self._listener.is_away and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_EVERY_SECONDS
            with suppress(KafkaException):
                consumer.list_topics(timeout=ASK_EVERY_SECONDS)
                self._reasons.forget()
                self._listener.tell_loop(self._listener.available)

    def commit(self, consumer: Consumer, ends: list[TopicPartition], settle: Settle) -> None:
        """Part of an order: commit, and read on meanwhile; to wait for a coordinator that is away takes long."""
        self.under_way.append((_named(ends), settle))
        try:
            consumer.commit(offsets=ends, asynchronous=True)
        except KafkaException as error:
            self.under_way.pop()
            settle(error.args[0])

    def _on_commit(self, error: KafkaError | None, ends: list[TopicPartition]) -> None:
        named, refused = _named(ends), (end.error for end in ends if end.error)
        # One that was tried again is answered after a later one.
        for place, (names, settle) in enumerate(self.under_way):
            if names == named:
                del self.under_way[place]
                settle(error or next(refused, None))
                return

    # -- the group ---------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        committed: Mapping[Partition, Commit | None] = {self._partition(tp): None for tp in assigned}
        if assigned:
            # Without an answer only the bitmap is missed: what it names is done once more, from the same offset on.
            with suppress(KafkaException):
                committed = {self._partition(tp): commit_of(tp) for tp in consumer.committed(assigned, timeout=10)}
        # librdkafka remembers a pause beyond a revocation: a partition that comes back would stand still for ever.
        self.orders.appendleft(lambda consumer: consumer.resume(assigned))
        self._listener.tell_loop(self._listener.assigned, committed)

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition], *, lost: bool) -> None:
        partitions = [self._partition(tp) for tp in revoked]
        try:
            commits = self._listener.ask_handler(partitions, lost=lost, seconds=REVOKE_SECONDS)
            # Older commits may still wait here: they leave first, and do not overwrite the last words.
            self._obey(consumer)
            if commits and not lost:
                consumer.commit(offsets=offsets(self._prefix, commits), asynchronous=False)
        except (TimeoutError, KafkaException) as error:
            self._listener.tell_loop(self._listener.last_commit_failed, str(error))

    def _partition(self, tp: TopicPartition) -> Partition:
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)


def _named(ends: Sequence[TopicPartition]) -> frozenset[PartitionEnd]:
    return frozenset((end.topic, end.partition, end.offset) for end in ends)


def offsets(prefix: str, commits: Mapping[Partition, Commit]) -> list[TopicPartition]:
    """Commits as librdkafka takes them."""
    return [
        TopicPartition(prefix + partition.topic, partition.number, commit.offset, commit.metadata)
        for partition, commit in commits.items()
    ]
