"""Produce records with librdkafka until each one is acknowledged."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.adapters.kafka.connection.connection_errors import ConnectionErrors
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER, is_stored
from streams.adapters.kafka.producing.produce_errors import ProduceError, class_of, fatal_error_of
from streams.adapters.kafka.producing.produce_outages import ProduceOutages
from streams.core.errors import RecordsRefused, ScormWebhooksError
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.ports.runtime import Telemetry

# The poll intervals with and without records that wait for an acknowledgement.
BUSY_POLL_SECONDS = 0.001
IDLE_POLL_SECONDS = 0.1
# Callers of a lingering producer can wait: it polls this many times in its linger.
POLLS_PER_LINGER = 2
RETRY_SECONDS = 0.5
FLUSH_TIMEOUT_SECONDS = 10.0


class ProducerFailed(ScormWebhooksError):
    """The producer has failed for good; the process must exit and start again."""


class _PendingCall:
    """One call of `produce`: the append times, the refused records with reasons, and the count of the others."""

    __slots__ = ("append_times", "future", "reasons", "records", "retries", "unsettled_count")

    def __init__(self, records: Sequence[Outgoing], loop: asyncio.AbstractEventLoop) -> None:
        self.records = records
        self.unsettled_count = len(records)
        self.append_times: dict[int, datetime] = {}
        self.reasons: dict[int, str] = {}
        # At most one task for each record. It ends when the record is settled or the caller is cancelled.
        self.retries: dict[int, asyncio.Task[None]] = {}
        self.future: asyncio.Future[None] = loop.create_future()

    def record_append(self, index: int, at: datetime) -> None:
        self.append_times[index] = at
        self._settle(index)

    def record_refusal(self, index: int, reason: str) -> None:
        self.reasons[index] = reason
        self._settle(index)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def _settle(self, index: int) -> None:
        if self.retries:
            self.retries.pop(index, None)
        self.unsettled_count -= 1
        if self.unsettled_count == 0 and not self.future.done():
            self.future.set_result(None)

    def end(self) -> None:
        """Stop all retries."""
        self.future.cancel()
        for task in self.retries.values():
            task.cancel()
        self.retries.clear()


class KafkaRecordProducer:
    """A `RecordProducer` on a real or embedded broker. Topics get the deployment's prefix.

    It polls on the event loop: a thread would compete with the loop for the interpreter at each acknowledgement.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        telemetry: Telemetry,
        outages: Outages,
        *,
        retry_seconds: float = RETRY_SECONDS,
        flush_timeout_seconds: float = FLUSH_TIMEOUT_SECONDS,
    ) -> None:
        self._errors = ConnectionErrors(self._on_outage)
        self._config = {**config, "error_cb": self._errors, "logger": LIBRDKAFKA_LOGGER}
        self._producer = Producer(self._config)
        self._single_record_producer: Producer | None = None
        self._prefix = prefix
        self._retry_seconds = retry_seconds
        self._flush_timeout_seconds = flush_timeout_seconds
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._fatal_error: KafkaError | None = None
        self._failed_event = asyncio.Event()
        self._pending: set[_PendingCall] = set()
        self._outages = ProduceOutages(telemetry, outages)
        self._is_poll_scheduled = False
        self._busy_poll_seconds = max(BUSY_POLL_SECONDS, float(config.get("linger.ms", 0)) / 1000 / POLLS_PER_LINGER)
        self._timer = self._loop.call_soon(self._poll)

    def readiness_problems(self) -> list[str]:
        """Why some records cannot be produced at the moment. Names the topics that accept no records."""
        if self._fatal_error is not None:
            return [f"the Kafka producer has failed for good: {self._fatal_error.str()}"]
        return self._outages.problems(self._loop.time(), is_idle=not self._queue_length())

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Produce records and wait until all are acknowledged, through an outage too. Returns their append times.

        Raises `RecordsRefused` if Kafka refuses some of them permanently, once all others are acknowledged, and
        `ProducerFailed` on a fatal error of the producer.
        """
        if not records:
            return ()
        pending = _PendingCall(records, self._loop)
        self._pending.add(pending)
        try:
            for index in range(len(records)):
                while wait := self._hand_over(pending, index, self._producer):
                    await asyncio.sleep(wait)
            await pending.future
        finally:
            self._pending.discard(pending)
            pending.end()
        if pending.reasons:
            raise RecordsRefused(pending.reasons, pending.append_times)
        return [pending.append_times[index] for index in range(len(records))]

    async def wait_until_failed(self) -> None:
        """Wait until the producer has failed for good, and raise `ProducerFailed`."""
        await self._failed_event.wait()
        raise ProducerFailed(f"Kafka producer: {self._fatal_error}")

    async def close(self) -> None:
        """Wait up to ten seconds for acknowledgements, and stop."""
        deadline = self._loop.time() + self._flush_timeout_seconds
        while self._queue_length() and self._loop.time() < deadline:
            await asyncio.sleep(10 * BUSY_POLL_SECONDS)
        self._timer.cancel()

    def _hand_over(self, pending: _PendingCall, index: int, producer: Producer) -> float:
        """Give a record to librdkafka. Its delivery report settles the record.

        Returns the seconds until the next try, or 0 if librdkafka has the record or it is refused.
        """
        if self._fatal_error is not None:
            raise ProducerFailed(f"Kafka producer: {self._fatal_error}")
        record = pending.records[index]
        try:
            producer.produce(
                self._prefix + record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=partial(self._on_delivery, pending, index, producer),
            )
        except BufferError:
            # The local queue is full: wait for acknowledgements.
            return 0.01
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            # Here librdkafka checks the size of this record alone.
            if self._classify(kafka_error, record.topic) is ProduceError.REFUSED:
                pending.record_refusal(index, kafka_error.str())
                return 0
            return self._retry_seconds
        self._poll_soon()
        return 0

    def _queue_length(self) -> int:
        """The count of records without an acknowledgement."""
        return len(self._producer) + (len(self._single_record_producer) if self._single_record_producer else 0)

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
            if self._single_record_producer:
                self._single_record_producer.poll(0)
        except (KafkaException, SystemError) as raised:
            self._fail(fatal_error_of(raised))
        finally:
            self._is_poll_scheduled = self._queue_length() > 0
            seconds = self._busy_poll_seconds if self._is_poll_scheduled else IDLE_POLL_SECONDS
            self._timer = self._loop.call_later(seconds, self._poll)

    def _fail(self, error: KafkaError) -> None:
        """End all calls: librdkafka may keep their records until they time out."""
        self._fatal_error = error
        self._failed_event.set()
        for pending in self._pending:
            pending.fail(ProducerFailed(f"Kafka producer: {error}"))

    def _poll_soon(self) -> None:
        if not self._is_poll_scheduled:
            self._is_poll_scheduled = True
            self._timer.cancel()
            self._timer = self._loop.call_later(self._busy_poll_seconds, self._poll)

    def _on_outage(self, error: KafkaError) -> None:
        """Note an outage while records wait. The records themselves only time out after minutes."""
        if self._queue_length():
            self._outages.record_outage(error)

    def _on_delivery(
        self, pending: _PendingCall, index: int, producer: Producer, error: KafkaError | None, message: Message
    ) -> None:
        topic = pending.records[index].topic
        if error is None:
            self._outages.record_success(topic)
            self._errors.clear()
            if not is_stored(message):
                # A record twice on the topic is better than a lost one.
                self._telemetry.count("produce_errors_total")
                self._produce_later(pending, index, producer, 0)
                return
            pending.record_append(index, _to_append_time(message.timestamp()[1]))
            return
        match self._classify(error, topic):
            case ProduceError.REFUSED if producer is self._single_record_producer:
                pending.record_refusal(index, error.str())
            case ProduceError.REFUSED:
                # The whole batch was refused. Produced alone, the record shows whether it is the cause.
                self._produce_later(pending, index, self._make_single_record_producer(), 0)
            case ProduceError.AWAY:
                self._produce_later(pending, index, producer, self._retry_seconds)

    def _make_single_record_producer(self) -> Producer:
        """A producer that sends one record at a time."""
        if self._single_record_producer is None:
            self._single_record_producer = Producer({**self._config, "batch.num.messages": 1})
        return self._single_record_producer

    def _produce_later(self, pending: _PendingCall, index: int, producer: Producer, seconds: float) -> None:
        if not pending.future.done():
            pending.retries[index] = self._loop.create_task(self._retry_later(pending, index, producer, seconds))

    async def _retry_later(self, pending: _PendingCall, index: int, producer: Producer, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            while wait := self._hand_over(pending, index, producer):
                await asyncio.sleep(wait)
        except ProducerFailed as error:
            pending.fail(error)

    def _classify(self, error: KafkaError, topic: str) -> ProduceError:
        self._telemetry.count("produce_errors_total")
        error_class = class_of(error)
        if error_class is ProduceError.OURS:
            self._fail(error)
        elif error_class is ProduceError.AWAY:
            self._outages.record_failure(topic, error, self._loop.time())
        return error_class


def _to_append_time(milliseconds: int) -> datetime:
    # The embedded broker acknowledges with a time in 1970.
    if milliseconds < _MIN_PLAUSIBLE_MS:
        return datetime.now(UTC)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


_MIN_PLAUSIBLE_MS = 1_000_000_000_000
