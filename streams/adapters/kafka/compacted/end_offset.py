"""Request the end of a compacted topic, which also shows whether the topic was recreated."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER
from streams.adapters.threads import THREADS, run_in_worker_thread
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.outage import BROKER, Outages

REQUEST_SECONDS = 5.0
RETRY_SECONDS = 0.5


class TopicReaderFailed(ScormWebhooksError):
    """The topic was recreated, or its consumer failed; the process must exit and read it from the start."""


class EndOffset:
    """Requests the end with a separate client. On the reading client, it would wait half a second behind the fetch."""

    def __init__(self, config: Mapping[str, Any], topic: str, outages: Outages) -> None:
        self._client = Consumer({**config, "enable.partition.eof": False, "logger": LIBRDKAFKA_LOGGER})
        self._topic = topic
        self._outages = outages
        self._has_lost_leader = False
        # Whether the last request has no response yet.
        self.is_away = False

    async def find_end(self, position: int) -> int:
        """Request the next offset that will be written. Waits through an outage.

        Raises `TopicReaderFailed` if the end is before `position`.
        """
        end = await self._outages.retry(self._ask, RETRY_SECONDS, THREADS, BROKER)
        self.is_away = False
        if end < position:
            raise TopicReaderFailed(f"{self._topic} ends at {end}, before what was read: the topic was recreated")
        return end

    async def _ask(self) -> int:
        try:
            if self._has_lost_leader:
                await run_in_worker_thread(self._find_leader)
                self._has_lost_leader = False
            return await run_in_worker_thread(self._request_end)
        except KafkaException as error:
            self.is_away = self._has_lost_leader = True
            raise Unavailable(error.args[0].str()) from None
        except Unavailable:
            self.is_away = True
            raise

    def _request_end(self) -> int:
        # One request, because `get_watermark_offsets` sends two.
        [latest] = self._client.offsets_for_times([TopicPartition(self._topic, 0, OFFSET_END)], REQUEST_SECONDS)
        if latest.error is not None or latest.offset < 0:
            raise KafkaException(latest.error or KafkaError(KafkaError._NO_OFFSET))
        return int(latest.offset)

    def _find_leader(self) -> None:
        # Without an assignment, this client asks a dead broker for minutes. A metadata request finds the new leader.
        with suppress(KafkaException):
            self._client.list_topics(self._topic, timeout=REQUEST_SECONDS)
