"""Track the erased learners by reading the topic `erasures`."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message

from streams.adapters.kafka.compacted.compacted_topic_reader import CompactedTopicReader
from streams.adapters.kafka.compacted.erasure_records import apply_record
from streams.adapters.kafka.compacted.sentinel_check import SentinelCheck
from streams.adapters.kafka.consuming.consumer_watchdog import NewWatchdog
from streams.core.deliveries.delivery import Delivery
from streams.core.encryption import WRONG_KEYS_MESSAGE
from streams.core.erasures.erasure import is_erased
from streams.core.erasures.erasures_table import ErasuresTable
from streams.core.records.compacted_table import key_of
from streams.outage import Outages
from streams.ports.kafka import Partition, Record
from streams.ports.runtime import Telemetry
from streams.tasks import run_until_first_ends
from streams.topics import ERASURES

# The end of the topic is requested this often, so that a frozen process or one without a broker notices it.
CATCH_UP_INTERVAL_SECONDS = 0.5
# A request begins only if every erasure that was on the topic this long ago is known.
MAX_STALENESS_SECONDS = 2.0
# With this size a million small records take half the time, and each batch takes the loop 20 ms.
BATCH_RECORDS = 2000
_PARTITION = Partition(ERASURES, 0)
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class ErasuresReader(CompactedTopicReader):
    """`ErasedLearners` on Kafka. `decrypt` reads the keys of the hashes, and raises `InvalidRecord`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        telemetry: Telemetry,
        outages: Outages,
        decrypt: Callable[[str], str],
        watchdog: NewWatchdog | None = None,
    ) -> None:
        self.table = ErasuresTable(decrypt)
        self._telemetry = telemetry
        # Until this time the table is reliable: one comparison for each delivery.
        self._current_until = -math.inf
        sentinel = SentinelCheck(ERASURES, lambda ciphertext: True, outages)
        super().__init__(config, prefix, ERASURES, self.table, sentinel, outages, watchdog, BATCH_RECORDS)

    async def run(self) -> None:
        """Read until cancelled. Raises the errors of `CompactedTopicReader.run`."""
        await run_until_first_ends(super().run, self._stay_current)

    async def is_erased(self, delivery: Delivery) -> bool:
        await self.wait_until_current()
        return self.is_erased_now(delivery)

    def is_current(self) -> bool:
        return time.monotonic() <= self._current_until

    async def wait_until_current(self) -> None:
        if not self.is_current():
            await self._wait_until(self.is_current)

    def is_erased_now(self, delivery: Delivery) -> bool:
        if not self.table.has_erasures(delivery.account_id):
            return False
        learner_id = delivery.subjects.learner_id
        if learner_id is None:
            return False
        erased_at = self.table.erased_at(delivery.account_id, learner_id)
        return is_erased(erased_at, delivery.first_seen_at, delivery.body)

    async def _stay_current(self) -> None:
        while True:
            await self._catch_up()
            self._current_until = self._caught_up_asked_at + MAX_STALENESS_SECONDS
            await self._notify()
            await asyncio.sleep(CATCH_UP_INTERVAL_SECONDS)

    def _on_messages(self, messages: Sequence[Message]) -> None:
        super()._on_messages(messages)
        if not self.is_ready:
            self._current_until = -math.inf

    def _unready_reason(self) -> str:
        if self.table.undecryptable_key_ids:
            return WRONG_KEYS_MESSAGE
        if newer_count := len(self.table.newer_release_ids):
            return f"{ERASURES}: a newer release wrote {newer_count} records; upgrade this stage"
        return f"the erasures are not all read yet (topic {ERASURES})"

    def _to_record(self, message: Message) -> Record:
        # The whole conversion would take as long as all the rest. Only tombstones have headers.
        value = message.value()
        if value is None:
            return super()._to_record(message)
        return Record(_PARTITION, message.offset() or 0, message.key(), value, _NO_TIME)

    def _apply_record(self, record: Record) -> None:
        apply_record(self.table, record)

    def _on_invalid(self, record: Record, error: Exception) -> None:
        self._telemetry.count("erasures_invalid_total")
        self._telemetry.warning("erasure_invalid", key=key_of(record.key)[:200], offset=record.offset, why=str(error))

    def _expose_size(self) -> None:
        self._telemetry.gauge("erased_learners", len(self.table))
