"""Produce records with librdkafka until each one is acknowledged."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.adapters.kafka.connection_errors import ConnectionErrors
from streams.adapters.kafka.messages import LIBRDKAFKA, is_stored
from streams.adapters.kafka.produce_errors import ProduceError, class_of
from streams.adapters.kafka.produce_outages import ProduceOutages
from streams.core.errors import RecordsRefused, ScormWebhooksError
from streams.outage import Outages
from streams.ports import Outgoing, Telemetry

# The poll intervals with and without records that wait for an acknowledgement.
BUSY_POLL_SECONDS = 0.001
IDLE_POLL_SECONDS = 0.1
# A producer that lingers has no caller in a hurry: it polls so many times in its linger.
POLLS_IN_LINGER = 2
RETRY_SECONDS = 0.5
FLUSH_SECONDS = 10.0


class ProducerFailed(ScormWebhooksError):
    """The producer has failed for good; the process must exit and start again."""


class _Pending:
    """One call of `produce`: the append times, the refused records with reasons, and the count of the others."""

    __slots__ = ("appended", "done", "left", "reasons", "records", "retries")

    def __init__(self, records: Sequence[Outgoing], loop: asyncio.AbstractEventLoop) -> None:
        self.records = records
        self.left = len(records)
        self.appended: dict[int, datetime] = {}
        self.reasons: dict[int, str] = {}
        # At most one task for each record. It ends when the record is settled or the caller is cancelled.
        self.retries: dict[int, asyncio.Task[None]] = {}
        self.done: asyncio.Future[None] = loop.create_future()

    def append(self, index: int, at: datetime) -> None:
        self.appended[index] = at
        self._settle(index)

    def refuse(self, index: int, reason: str) -> None:
        self.reasons[index] = reason
        self._settle(index)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _settle(self, index: int) -> None:
        if self.retries:
            self.retries.pop(index, None)
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)

    def end(self) -> None:
        """Stop all retries."""
        self.done.cancel()
        for task in self.retries.values():
            task.cancel()
        self.retries.clear()


class KafkaRecordProducer:
    """A `RecordProducer` on a real or embedded broker. Topics get the deployment's prefix.

    It polls on the event loop: a thread would compete with the loop for the interpreter at each acknowledgement.
    """

    def __init__(self, config: Mapping[str, Any], prefix: str, telemetry: Telemetry, outages: Outages) -> None:
        self._errors = ConnectionErrors(self._away)
        self._config = {**config, "error_cb": self._errors, "logger": LIBRDKAFKA}
        self._producer = Producer(self._config)
        self._single: Producer | None = None
        self._prefix = prefix
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._broken: KafkaError | None = None
        self._broke = asyncio.Event()
        self._outages = ProduceOutages(telemetry, outages)
        self._polls_soon = False
        self._busy_seconds = max(BUSY_POLL_SECONDS, float(config.get("linger.ms", 0)) / 1000 / POLLS_IN_LINGER)
        self._timer = self._loop.call_soon(self._poll)

    def readiness_problems(self) -> list[str]:
        """Why some records cannot be produced at the moment. Names the topics that take none."""
        if self._broken is not None:
            return [f"the Kafka producer has failed for good: {self._broken.str()}"]
        return self._outages.problems(self._loop.time(), idle=not self._queue_length())

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Produce records and wait until all are acknowledged, through an outage too. Returns their append times.

        Raises `RecordsRefused` when Kafka refuses some of them for ever, once all others are acknowledged, and
        `ProducerFailed` on a fatal error of the producer.
        """
        if not records:
            return ()
        pending = _Pending(records, self._loop)
        try:
            for index in range(len(records)):
                while wait := self._hand_over(pending, index, self._producer):
                    await asyncio.sleep(wait)
            await pending.done
        finally:
            pending.end()
        if pending.reasons:
            raise RecordsRefused(pending.reasons, pending.appended)
        return [pending.appended[index] for index in range(len(records))]

    async def watch(self) -> None:
        """Wait until the producer has failed for good, and raise `ProducerFailed`."""
        await self._broke.wait()
        raise ProducerFailed(f"Kafka producer: {self._broken}")

    async def close(self) -> None:
        """Wait up to ten seconds for acknowledgements, and stop."""
        deadline = self._loop.time() + FLUSH_SECONDS
        while self._queue_length() and self._loop.time() < deadline:
            await asyncio.sleep(10 * BUSY_POLL_SECONDS)
        self._timer.cancel()

    def _hand_over(self, pending: _Pending, index: int, producer: Producer) -> float:
        """Give a record to librdkafka. Its delivery report settles the record.

        Returns the seconds until the next try, or 0 when librdkafka has the record or it is refused.
        """
        if self._broken is not None:
            raise ProducerFailed(f"Kafka producer: {self._broken}")
        record = pending.records[index]
        try:
            producer.produce(
                self._prefix + record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=partial(self._delivered, pending, index, producer),
            )
        except BufferError:
            # The local queue is full: wait for acknowledgements.
            return 0.01
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            # Here librdkafka checks the size of this record alone.
            if self._class_of(kafka_error, record.topic) is ProduceError.REFUSED:
                pending.refuse(index, kafka_error.str())
                return 0
            return RETRY_SECONDS
        self._poll_soon()
        return 0

    def _queue_length(self) -> int:
        """The count of records without an acknowledgement."""
        return len(self._producer) + (len(self._single) if self._single else 0)

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
            if self._single:
                self._single.poll(0)
        finally:
            self._polls_soon = self._queue_length() > 0
            seconds = self._busy_seconds if self._polls_soon else IDLE_POLL_SECONDS
            self._timer = self._loop.call_later(seconds, self._poll)

    def _poll_soon(self) -> None:
        if not self._polls_soon:
            self._polls_soon = True
            self._timer.cancel()
            self._timer = self._loop.call_later(self._busy_seconds, self._poll)

    def _away(self, error: KafkaError) -> None:
        """Note an outage while records wait. They themselves only time out, after minutes."""
        if self._queue_length():
            self._outages.no_broker_answers(error)

    def _delivered(
        self, pending: _Pending, index: int, producer: Producer, error: KafkaError | None, message: Message
    ) -> None:
        topic = pending.records[index].topic
        if error is None:
            self._outages.succeeded(topic)
            self._errors.forget()
            if not is_stored(message):
                # Twice on the topic is better than not at all.
                self._telemetry.count("produce_errors_total")
                self._produce_later(pending, index, producer, 0)
                return
            pending.append(index, _time(message.timestamp()[1]))
            return
        match self._class_of(error, topic):
            case ProduceError.OURS:
                pending.fail(ProducerFailed(f"Kafka producer: {error}"))
            case ProduceError.REFUSED if producer is self._single:
                pending.refuse(index, error.str())
            case ProduceError.REFUSED:
                # The whole batch was refused. Produced alone, the record shows whether it is the cause.
                self._produce_later(pending, index, self._single_producer(), 0)
            case ProduceError.AWAY:
                self._produce_later(pending, index, producer, RETRY_SECONDS)

    def _single_producer(self) -> Producer:
        """A producer that sends one record at a time."""
        if self._single is None:
            self._single = Producer({**self._config, "batch.num.messages": 1})
        return self._single

    def _produce_later(self, pending: _Pending, index: int, producer: Producer, seconds: float) -> None:
        if not pending.done.done():
            pending.retries[index] = self._loop.create_task(self._retry_later(pending, index, producer, seconds))

    async def _retry_later(self, pending: _Pending, index: int, producer: Producer, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            while wait := self._hand_over(pending, index, producer):
                await asyncio.sleep(wait)
        except ProducerFailed as error:
            pending.fail(error)

    def _class_of(self, error: KafkaError, topic: str) -> ProduceError:
        self._telemetry.count("produce_errors_total")
        error_class = class_of(error)
        if error_class is ProduceError.OURS:
            self._broken = error
            self._broke.set()
        elif error_class is ProduceError.AWAY:
            self._outages.failed(topic, error, self._loop.time())
        return error_class


def _time(milliseconds: int) -> datetime:
    # The embedded broker acknowledges with a time in 1970.
    if milliseconds < _PLAUSIBLE_MS:
        return datetime.now(UTC)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


_PLAUSIBLE_MS = 1_000_000_000_000
