"""Keep the table of webhooks by reading the topic `subscriptions`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.adapters.kafka.compacted.broker_clock import BrokerClock
from streams.adapters.kafka.compacted.compacted_topic_reader import CompactedTopicReader
from streams.adapters.kafka.compacted.sentinel_check import SentinelCheck
from streams.adapters.kafka.compacted.subscription_records import apply_record
from streams.adapters.kafka.consuming.consumer_watchdog import NewWatchdog
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.records.compacted_table import key_of
from streams.core.webhooks.subscriptions_table import SubscriptionsTable
from streams.core.webhooks.webhook import Webhook
from streams.outage import Outages
from streams.ports.kafka import Codec, Record
from streams.ports.runtime import Clock, Telemetry
from streams.topics import SUBSCRIPTIONS


class SubscriptionsReader(CompactedTopicReader):
    """`Subscriptions` on Kafka.

    A stage that signs passes `is_valid_check_text`: it is not ready until one of its keys decrypts the check text.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefix: str,
        codec: Codec,
        telemetry: Telemetry,
        clock: Clock,
        outages: Outages,
        is_valid_check_text: Callable[[str], bool] = lambda ciphertext: True,
        watchdog: NewWatchdog | None = None,
    ) -> None:
        self.table = SubscriptionsTable(CompactSubscriptions(codec))
        self._codec = codec
        self._telemetry = telemetry
        self._clock = BrokerClock(clock.now, self._notify_soon)
        sentinel = SentinelCheck(SUBSCRIPTIONS, is_valid_check_text, outages, self._clock)
        super().__init__(config, prefix, SUBSCRIPTIONS, self.table, sentinel, outages, watchdog)

    async def catch_up(self, ago: float = 0.0) -> SubscriptionsPosition:
        await self._catch_up(ago)
        return self.table.reached_position

    async def wait_for(self, position: SubscriptionsPosition) -> None:
        """Wait until the table has everything that the writer of a delivery may have read."""
        if position.incarnation != self.table.incarnation:
            # The writer or this process read a topic that no longer exists. The end of the topic shows which.
            await self.catch_up()
            return
        if self.is_ready and self.table.has_reached(position):
            return
        # No process has read beyond the end. Waiting for such a position would block the partition forever.
        end = await self._end_offset()
        reachable = SubscriptionsPosition(position.incarnation, min(position.offset, end))
        await self._wait_until(lambda: self.is_ready and self.table.has_reached(reachable))

    def find(self, webhook_id: str) -> Webhook | None:
        return self.table.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.table.of_account(account_id)

    def count_of_account(self, account_id: str) -> int:
        return self.table.count_of_account(account_id)

    def _unready_reason(self) -> str:
        if newer_count := len(self.table.newer_release_ids):
            return f"{SUBSCRIPTIONS}: a newer release wrote the records of {newer_count} webhooks; upgrade this stage"
        return f"the webhooks are not all read yet (topic {SUBSCRIPTIONS})"

    def _apply_record(self, record: Record) -> None:
        apply_record(self.table, self._codec, record)

    def _on_invalid(self, record: Record, error: Exception) -> None:
        self._telemetry.count("subscriptions_invalid_total")
        webhook_id = key_of(record.key)
        self._telemetry.warning("subscription_invalid", webhook_id=webhook_id, offset=record.offset, why=str(error))

    def _on_sentinel(self, record: Record) -> None:
        super()._on_sentinel(record)
        self._telemetry.gauge("clock_skew_seconds", self._clock.skew_seconds)

    def _expose_size(self) -> None:
        self._telemetry.gauge("subscriptions_webhooks", len(self.table))
