"""Read a compacted topic from its start on a thread, without a consumer group."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.kafka.compacted.end_offset import TopicReaderFailed
from streams.adapters.kafka.connection.connection_errors import ConnectionErrors
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER

POLL_SECONDS = 0.1
MAX_POLL_RECORDS = 500


class CompactedTopicThread:
    """Polls the topic and hands its messages to the event loop, one batch at a time.

    `on_messages` takes a batch, which may contain errors of single messages. `on_outage` takes the reason if no broker
    answers. Both run on the event loop.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        on_messages: Callable[[Sequence[Message]], None],
        on_outage: Callable[[KafkaError], None],
        batch_records: int = MAX_POLL_RECORDS,
    ) -> None:
        self._config = dict(config)
        self._topic = topic
        self._on_messages = on_messages
        self._batch_records = batch_records
        self._errors = ConnectionErrors(lambda reason: self._loop.call_soon_threadsafe(on_outage, reason))
        # A thread that runs ahead holds the whole topic in memory, and librdkafka does not return this memory.
        self._batch_taken = threading.Event()
        self._is_stopping = False

    async def run(self) -> None:
        """Read until cancelled. Raises the errors of `on_messages`, and `TopicReaderFailed` for a Kafka error."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        thread = threading.Thread(target=self._serve, name=f"kafka-{self._topic}", daemon=True)
        thread.start()
        try:
            await asyncio.shield(self._finished)
        finally:
            self._is_stopping = True
            await asyncio.shield(asyncio.to_thread(thread.join))

    def _serve(self) -> None:
        outcome: Exception | None = None
        try:
            self._read()
        except KafkaException as error:
            outcome = TopicReaderFailed(f"Kafka consumer of {self._topic}: {error}")
        except Exception as error:
            # If the thread only ended, the process would miss every later change.
            outcome = error
        self._loop.call_soon_threadsafe(self._finish, outcome)

    def _read(self) -> None:
        own_properties = {"auto.offset.reset": "error", "error_cb": self._errors, "logger": LIBRDKAFKA_LOGGER}
        consumer = Consumer({**self._config, **own_properties})
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        while not self._is_stopping:
            first = consumer.poll(POLL_SECONDS)
            if first is not None:
                messages = [first, *consumer.consume(self._batch_records - 1, 0)]
                self._loop.call_soon_threadsafe(self._hand_over, messages)
                self._wait_until_taken()
        consumer.close()

    def _wait_until_taken(self) -> None:
        while not self._batch_taken.wait(POLL_SECONDS) and not self._is_stopping:
            pass
        self._batch_taken.clear()

    # -- on the event loop -----------------------------------------------------------------------------------------

    def _hand_over(self, messages: Sequence[Message]) -> None:
        # The thread fetches the next batch while the loop applies this one.
        self._batch_taken.set()
        # After a failure nothing more is applied, because the failed batch would be missing.
        if self._finished.done():
            return
        if any(message.error() is None for message in messages):
            self._errors.clear()
        try:
            self._on_messages(messages)
        except Exception as error:
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(error) if error else self._finished.set_result(None)
