"""Read the erasures of the topic `erasures` again, portion by portion."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from streams.adapters.kafka.consuming.messages import to_record
from streams.adapters.kafka.lone_consumers import LoneConsumers
from streams.adapters.threads import run_in_daemon_thread
from streams.core.erasures.erasure import ErasedLearner
from streams.core.erasures.erasure_record import decode_erasure_record
from streams.core.errors import InvalidRecord, Unavailable
from streams.topics import ERASURES

PORTION_RECORDS = 5000
READ_SECONDS = 30.0


class KafkaErasureHistory:
    """An `ErasureHistory`."""

    def __init__(self, properties: Mapping[str, Any], prefix: str) -> None:
        self._consumers = LoneConsumers(properties)
        self._prefix = prefix

    async def read(self, offset: int) -> tuple[Sequence[ErasedLearner], int | None]:
        messages, next_offset = await run_in_daemon_thread(partial(self._read, offset))
        erased = []
        for message in messages:
            with suppress(InvalidRecord):  # The reader counts and logs it.
                record = to_record(message, self._prefix)
                value = decode_erasure_record(record.key, record.value, record.headers)
                if isinstance(value, ErasedLearner):
                    erased.append(value)
        return erased, next_offset

    def _read(self, offset: int) -> tuple[list[Message], int | None]:
        messages: list[Message] = []
        with self._consumers.open() as consumer:
            consumer.assign([TopicPartition(self._prefix + ERASURES, 0, offset or OFFSET_BEGINNING)])
            deadline = time.monotonic() + READ_SECONDS
            while time.monotonic() < deadline:
                for message in consumer.consume(PORTION_RECORDS, 0.5):
                    error = message.error()
                    if error is None:
                        messages.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return messages, None
                    else:
                        raise KafkaException(error)
                if len(messages) >= PORTION_RECORDS:
                    return messages, (messages[-1].offset() or 0) + 1
        raise Unavailable(f"{ERASURES}: no record in {READ_SECONDS:.0f} s")
