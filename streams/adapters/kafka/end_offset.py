"""Where `subscriptions` ends, and so whether it is still the topic that was read."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.messages import LIBRDKAFKA
from streams.adapters.threads import in_worker_thread
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.ports import Telemetry
from streams.topics import SUBSCRIPTIONS

ASK_SECONDS = 5.0
RETRY_SECONDS = 0.5


class SubscriptionsReaderFailed(ScormWebhooksError):
    """The topic is not the one that was read; the process must exit and read it from the start."""


class EndOffset:
    """Asks on a client of its own: on one that tails, the question would queue behind its fetch, half a second."""

    def __init__(self, config: Mapping[str, Any], prefix: str, telemetry: Telemetry) -> None:
        self._asker = Consumer({**config, "enable.partition.eof": False, "logger": LIBRDKAFKA})
        self._topic = prefix + SUBSCRIPTIONS
        self._telemetry = telemetry
        self.is_away = False

    async def beyond(self, read: int) -> int:
        """The next offset that will be written. Waits through an outage.

        Raises `SubscriptionsReaderFailed` when the end is before `read`.
        """
        end = await self._ask()
        if end < read:
            raise SubscriptionsReaderFailed(f"{SUBSCRIPTIONS} ends at {end}, before what was read: it was made anew")
        return end

    async def _ask(self) -> int:
        while True:
            try:
                end = await in_worker_thread(self._latest)
            except KafkaException as error:
                self._warn_once("broker unavailable; waiting", error.args[0].str())
                await asyncio.sleep(RETRY_SECONDS)
                with suppress(Unavailable):
                    await in_worker_thread(self._find_leader)
            except Unavailable as shortage:
                self._warn_once("no thread to ask the broker with; waiting", str(shortage))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.is_away = False
                return end

    def _warn_once(self, fact: str, why: str) -> None:
        if not self.is_away:
            self._telemetry.warning(fact, why=why)
        self.is_away = True

    def _latest(self) -> int:
        # One request: for `get_watermark_offsets` it would be two.
        [latest] = self._asker.offsets_for_times([TopicPartition(self._topic, 0, OFFSET_END)], ASK_SECONDS)
        if latest.error is not None or latest.offset < 0:
            raise KafkaException(latest.error or KafkaError(KafkaError._NO_OFFSET))
        return int(latest.offset)

    def _find_leader(self) -> None:
        # This client is assigned nothing: of itself it goes on asking a broker that is dead, for minutes.
        with suppress(KafkaException):
            self._asker.list_topics(self._topic, timeout=ASK_SECONDS)
