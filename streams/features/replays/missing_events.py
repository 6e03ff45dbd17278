"""Count the events of `session-events` for which a webhook has no delivery."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.backfill import backfill_delivery
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.delivery_state import recorded_event
from streams.core.errors import Invalid, InvalidRecord
from streams.core.webhooks.webhook import Webhook
from streams.features.replays.rules import MissingEvents
from streams.features.shared.event_scan import EventScan, events_with
from streams.ports.kafka import Codec, EventHistory, Record
from streams.ports.storage import DeliveryStore, ErasedEvents

# A person waits for the count: it stops after this many records or seconds, and reports that.
MAX_COUNTED_RECORDS = 100_000
MAX_COUNTING_SECONDS = 5.0
IDS_PER_QUERY = 500


@dataclass
class MissingEventCounter:
    """`_history` is called for each count, so that nothing else needs Kafka."""

    _history: Callable[[], EventHistory]
    _deliveries: DeliveryStore
    _erased: ErasedEvents
    _codec: Codec

    async def count(self, webhook: Webhook, delivery_filter: DeliveryFilter) -> MissingEvents:
        """Read the topic until the end of the period, or until the count takes too long. Raises `Unavailable`."""
        assert delivery_filter.since is not None
        assert delivery_filter.until is not None
        scan = await EventScan.begin(
            self._history(), delivery_filter.since, delivery_filter.until, MAX_COUNTING_SECONDS
        )
        count = records_read = 0
        while scan.unread and records_read < MAX_COUNTED_RECORDS and not scan.is_late:
            records = await scan.read()
            count += await self._count_missing(records, webhook, delivery_filter)
            records_read += len(records)
        return MissingEvents(count, bool(scan.unread), scan.oldest_available)

    async def _count_missing(self, records: Iterable[Record], webhook: Webhook, delivery_filter: DeliveryFilter) -> int:
        """The number of missing deliveries for these records."""
        deliveries = await deliveries_of(records, self._codec, webhook, delivery_filter)
        by_key = {(delivery.account_id, delivery.event_id): delivery for delivery in deliveries}
        if not by_key:
            return 0
        erased_keys = await self._erased.find_erased(
            {key: recorded_event(delivery) for key, delivery in by_key.items()}
        )
        ids, existing_count = sorted(delivery.id for key, delivery in by_key.items() if key not in erased_keys), 0
        for start in range(0, len(ids), IDS_PER_QUERY):
            existing_count += len(await self._deliveries.find_existing(ids[start : start + IDS_PER_QUERY]))
        return len(ids) - existing_count


async def deliveries_of(
    records: Iterable[Record], codec: Codec, webhook: Webhook, delivery_filter: DeliveryFilter
) -> list[Delivery]:
    """The deliveries that the webhook should have for these records."""
    deliveries = []
    async for record, event in events_with(webhook.account_id, records, codec):
        try:
            delivery = backfill_delivery(event, record.appended_at, webhook, delivery_filter)
        except (InvalidRecord, Invalid):
            # fan-out has stored the record as invalid.
            continue
        if delivery is not None:
            deliveries.append(delivery)
    return deliveries
