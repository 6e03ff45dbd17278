"""Poll a consumer group on a thread: run commands, read records, and handle rebalances."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.kafka.connection.connection_errors import ConnectionErrors
from streams.adapters.kafka.consuming.group_protocol import GroupProtocol, has_consumer_protocol
from streams.adapters.kafka.consuming.last_commits import read_commits, write_commits
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER, commit_of, to_record
from streams.core.errors import ScormWebhooksError
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Partition, Record

POLL_SECONDS = 0.02
# The event loop handles a whole batch before it does anything else.
MAX_POLL_RECORDS = 100
RETRY_SECONDS = 1.0
PROTOCOL_TIMEOUT_SECONDS = 5.0
# The time for a handler to finish revoked partitions, plus the time for the commit after it.
REVOKE_TIMEOUT_SECONDS = 8.0
# Longer than the time between two heartbeats.
READ_COMMITS_TIMEOUT_SECONDS = 10.0
# Shorter than the time after which librdkafka considers a thread that does not poll dead.
TAKE_OVER_TIMEOUT_SECONDS = 120.0
LAST_COMMIT_TIMEOUT_SECONDS = 6.0

# The first error comes from a broker whose release has the protocol, but whose cluster is not finally upgraded.
_NO_SUCH_PROTOCOL_CODES = (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE)

Command = Callable[[Consumer], None]
# Receives the result of a commit.
Settle = Callable[[KafkaError | None], None]
# Topic, partition, offset.
PartitionEnd = tuple[str, int, int]


class ConsumerFailed(ScormWebhooksError):
    """The consumer has failed for good; the process must exit and start again."""


def rewind(consumer: Consumer, target: TopicPartition) -> None:
    """Read a paused partition again from this offset. Raises `ConsumerFailed`, because records would be skipped."""
    try:
        consumer.seek(target)
    except KafkaException as error:
        # If the partition was revoked meanwhile, its next owner reads it.
        if any((one.topic, one.partition) == (target.topic, target.partition) for one in consumer.assignment()):
            place = f"{target.topic} {target.partition} to offset {target.offset}"
            raise ConsumerFailed(f"Kafka's client does not rewind {place}: {error}") from None


class _InstanceInUse(ConsumerFailed):
    """The group still has a member with this instance id."""


class _NoSuchProtocol(ConsumerFailed):
    """The broker does not support KIP-848."""


class ThreadOwner(Protocol):
    """The thread's callbacks. Only `tell_loop` and `ask_handler` run on the thread, the others on the event loop."""

    @property
    def is_away(self) -> bool: ...
    def tell_loop(self, callback: Callable[..., None], *arguments: object) -> None: ...
    def ask_handler(
        self, partitions: Sequence[Partition], *, is_lost: bool, seconds: float
    ) -> Mapping[Partition, Commit]: ...
    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None: ...
    def on_received(self, records: Sequence[Record]) -> None: ...
    def on_available(self) -> None: ...
    def on_unavailable(self, error: KafkaError) -> None: ...
    def on_instance_id_in_use(self) -> None: ...
    def on_classic_protocol(self) -> None: ...
    def on_last_commit_failed(self, error: str) -> None: ...
    def on_finished(self, error: Exception | None) -> None: ...


class ConsumerThread:
    """The thread's body is `run`.

    Any thread may append to `commands`; `pending_commits` holds the unanswered commits.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        protocol: GroupProtocol,
        topics: Sequence[str],
        prefix: str,
        owner: ThreadOwner,
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._topics = topics
        self._prefix = prefix
        self._owner = owner
        self._fatal_error: KafkaError | None = None
        self._connection_errors = ConnectionErrors(lambda reason: owner.tell_loop(owner.on_unavailable, reason))
        self._next_check_at = 0.0
        self._is_closing = False
        # A new batch is read only when the last one is taken: memory stays bounded, and pauses take effect at once.
        self._batch_taken = threading.Event()
        self._batch_taken.set()
        self.pending_commits: list[tuple[frozenset[PartitionEnd], Settle]] = []
        self.commands: deque[Command] = deque()
        self.is_stopping = False

    def stop(self) -> None:
        """Ask the thread to leave the group and end."""
        self.is_stopping = True

    def run(self) -> None:
        outcome: Exception | None = None
        try:
            while not self.is_stopping:
                try:
                    if self._protocol.is_decided or self._decide_protocol():
                        self._consume()
                except _InstanceInUse:
                    # The last process with this id was killed. The broker keeps its place for a session timeout.
                    self._owner.tell_loop(self._owner.on_instance_id_in_use)
                    time.sleep(RETRY_SECONDS)
                except _NoSuchProtocol:
                    if self._protocol.is_classic:
                        raise
                    self._decide(has_consumer=False)
        except (KafkaException, ConsumerFailed) as error:
            outcome = ConsumerFailed(f"Kafka consumer: {error}")
        except Exception as error:
            # If the thread only ended, the process would stay ready and read nothing.
            outcome = error
        self._owner.tell_loop(self._owner.on_finished, outcome)

    def _decide_protocol(self) -> bool:
        """Ask a broker which group protocol it supports. False if none responds."""
        config = {**self._config, "error_cb": self._connection_errors}
        try:
            has_consumer = has_consumer_protocol(config, self._prefix + self._topics[0], PROTOCOL_TIMEOUT_SECONDS)
        except KafkaException as error:
            self._owner.tell_loop(self._owner.on_unavailable, self._connection_errors.last_error or error.args[0])
            time.sleep(RETRY_SECONDS)
            return False
        self._decide(has_consumer=has_consumer)
        return True

    def _decide(self, *, has_consumer: bool) -> None:
        self._protocol.decide(has_consumer=has_consumer)
        if not has_consumer:
            self._owner.tell_loop(self._owner.on_classic_protocol)

    def _consume(self) -> None:
        self._fatal_error = None
        self._is_closing = False
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit, "logger": LIBRDKAFKA_LOGGER}
        consumer = Consumer({**self._config, **self._protocol.properties, **callbacks})
        try:
            self.subscribe(consumer, self._topics)
            while not self.is_stopping:
                is_batch_taken = self._batch_taken.wait(POLL_SECONDS)
                self._run_commands(consumer)
                if is_batch_taken:
                    self._read(consumer)
                self._check_outage(consumer)
                if self._fatal_error is not None:
                    raise _failure(self._fatal_error)
            self._run_commands(consumer)
        finally:
            self._is_closing = True
            consumer.close()
            # A dropped commit needs a result too, because its caller waits.
            for _, settle in self.pending_commits:
                settle(KafkaError(KafkaError._DESTROY))
            self.pending_commits.clear()

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Subscribe to these topics. With the `consumer` protocol this revokes no partitions of topics that stay."""
        self._topics = topics
        consumer.subscribe(
            [self._prefix + topic for topic in topics],
            on_assign=self._on_assign,
            on_revoke=lambda consumer, partitions: self._on_revoke(consumer, partitions, is_lost=False),
            on_lost=lambda consumer, partitions: self._on_revoke(consumer, partitions, is_lost=True),
        )

    def _run_commands(self, consumer: Consumer) -> None:
        while self.commands:
            # A partition that was revoked meanwhile cannot be paused or resumed, nor need it be.
            with suppress(KafkaException):
                self.commands.popleft()(consumer)

    def _read(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return
        messages = [first, *consumer.consume(MAX_POLL_RECORDS - 1, 0)]
        records = [to_record(message, self._prefix) for message in messages if self._is_record(message)]
        if records:
            self._batch_taken.clear()
            self._owner.tell_loop(self._hand_over, records)

    def _hand_over(self, records: Sequence[Record]) -> None:
        try:
            self._owner.on_received(records)
        finally:
            self._batch_taken.set()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal_error = error
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise ConsumerFailed(str(error))
        else:
            self._owner.tell_loop(self._owner.on_unavailable, error)
        return False

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._FATAL:
            self._fatal_error = error
        else:
            self._connection_errors(error)

    def _check_outage(self, consumer: Consumer) -> None:
        """Request metadata during an outage, because no other event shows that the broker is back."""
        if self._owner.is_away and time.monotonic() >= self._next_check_at:
            self._next_check_at = time.monotonic() + RETRY_SECONDS
            with suppress(KafkaException):
                consumer.list_topics(timeout=RETRY_SECONDS)
                self._connection_errors.clear()
                self._owner.tell_loop(self._owner.on_available)

    def commit(self, consumer: Consumer, ends: list[TopicPartition], settle: Settle) -> None:
        """Start a commit, and continue reading meanwhile. `settle` gets its result, which may take minutes in an
        outage.
        """
        self.pending_commits.append((_partition_ends(ends), settle))
        try:
            consumer.commit(offsets=ends, asynchronous=True)
        except KafkaException as error:
            self.pending_commits.pop()
            settle(error.args[0])

    def _on_commit(self, error: KafkaError | None, ends: list[TopicPartition]) -> None:
        partition_ends, errors = _partition_ends(ends), (end.error for end in ends if end.error)
        # librdkafka retries commits: results may come out of order.
        for index, (names, settle) in enumerate(self.pending_commits):
            if names == partition_ends:
                del self.pending_commits[index]
                settle(error or next(errors, None))
                return

    # -- the group -------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._is_closing:
            # The consumer closes while an assignment arrives: it is revoked at once, and a client that leaves its group
            # cannot read commits. Waiting for them would delay the end of the process by two minutes.
            return
        last_commits: Mapping[Partition, Commit | None] = {}
        if partitions:
            commits = self._commits_of(consumer, partitions)
            last_commits = {self._partition(tp): commit_of(tp) for tp in commits}
            for tp in commits:
                tp.offset = tp.offset if tp.offset >= 0 else OFFSET_BEGINNING
            # Without the offsets librdkafka requests them by itself, but not again if the coordinator refuses: the
            # partition would never be read.
            self._protocol.assign(consumer, commits)
        # librdkafka remembers a pause across rebalances: a partition that comes back would never be read.
        self.commands.appendleft(lambda consumer: consumer.resume(partitions))
        self._owner.tell_loop(self._owner.on_assigned, last_commits)

    def _commits_of(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The last commits, without which nothing can be read. Waits for the broker; raises `ConsumerFailed`.

        Returns nothing if the thread is to stop.
        """
        deadline = time.monotonic() + TAKE_OVER_TIMEOUT_SECONDS
        while True:
            try:
                return read_commits(consumer, partitions, READ_COMMITS_TIMEOUT_SECONDS)
            except KafkaException as error:
                kafka_error = error.args[0]
            if self.is_stopping:
                return []
            if time.monotonic() > deadline:
                raise ConsumerFailed(f"the last commits cannot be read: {kafka_error.str()}")
            self._owner.tell_loop(self._owner.on_unavailable, kafka_error)
            time.sleep(RETRY_SECONDS)

    def _on_revoke(self, consumer: Consumer, topic_partitions: list[TopicPartition], *, is_lost: bool) -> None:
        partitions = [self._partition(tp) for tp in topic_partitions]
        try:
            commits = self._owner.ask_handler(partitions, is_lost=is_lost, seconds=REVOKE_TIMEOUT_SECONDS)
            # Older commits go first, so that they do not overwrite the last one.
            self._run_commands(consumer)
            if commits and not is_lost:
                write_commits(consumer, offsets(self._prefix, commits), LAST_COMMIT_TIMEOUT_SECONDS)
        except (TimeoutError, KafkaException) as error:
            self._owner.tell_loop(self._owner.on_last_commit_failed, str(error))

    def _partition(self, tp: TopicPartition) -> Partition:
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)


def _failure(fatal: KafkaError) -> ConsumerFailed:
    reason = fatal.str()
    if KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str() in reason:
        return _InstanceInUse(fatal)
    if any(KafkaError(code).str() in reason for code in _NO_SUCH_PROTOCOL_CODES):
        return _NoSuchProtocol(fatal)
    return ConsumerFailed(fatal)


def _partition_ends(ends: Sequence[TopicPartition]) -> frozenset[PartitionEnd]:
    return frozenset((end.topic, end.partition, end.offset) for end in ends)


def offsets(prefix: str, commits: Mapping[Partition, Commit]) -> list[TopicPartition]:
    """Commits in librdkafka's form."""
    return [
        TopicPartition(prefix + partition.topic, partition.number, commit.offset, commit.metadata)
        for partition, commit in commits.items()
    ]
