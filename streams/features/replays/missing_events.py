"""Count the events of `session-events` for which a webhook has no delivery."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.backfill import Period, backfill_delivery, remaining_ranges, without_empty
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.delivery_state import recorded_event
from streams.core.errors import Invalid, InvalidRecord
from streams.core.webhooks.webhook import Webhook
from streams.features.replays.rules import MissingEvents
from streams.features.shared.in_turns import iterate_cooperatively
from streams.ports.kafka import Codec, EventHistory, HistoryPortion, Record
from streams.ports.storage import DeliveryStore, ErasedEvents
from streams.request_owner import began_at

# A person waits for the count: it stops after this many records or seconds, and says so.
MAX_COUNTED_RECORDS = 100_000
MAX_COUNTING_SECONDS = 5.0
RECORDS_PER_READ = 2000
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
        history = self._history()
        period = await history.period(delivery_filter.since, delivery_filter.until)
        return await self._count(history, period, webhook, delivery_filter)

    async def _count(
        self, history: EventHistory, period: Period, webhook: Webhook, delivery_filter: DeliveryFilter
    ) -> MissingEvents:
        loop = asyncio.get_running_loop()
        deadline = began_at(loop.time()) + MAX_COUNTING_SECONDS
        ranges, count, records_read = without_empty(period.ranges), 0, 0
        while ranges and records_read < MAX_COUNTED_RECORDS and loop.time() < deadline:
            portion = await history.read(ranges, RECORDS_PER_READ)
            count += await self._count_missing(portion, webhook, delivery_filter)
            ranges, records_read = remaining_ranges(ranges, portion.positions), records_read + len(portion.records)
        return MissingEvents(count, bool(ranges), period.oldest_available)

    async def _count_missing(self, portion: HistoryPortion, webhook: Webhook, delivery_filter: DeliveryFilter) -> int:
        """How many deliveries of a portion are missing."""
        deliveries = await deliveries_of(portion.records, self._codec, webhook, delivery_filter)
        by_key = {(delivery.account_id, delivery.event_id): delivery for delivery in deliveries}
        if not by_key:
            return 0
        erased_keys = await self._erased.find_erased(
            {key: recorded_event(delivery) for key, delivery in by_key.items()}
        )
        ids, existing_count = sorted(delivery.id for key, delivery in by_key.items() if key not in erased_keys), 0
        for start in range(0, len(ids), IDS_PER_QUERY):
            existing_count += len(await self._deliveries.existing(ids[start : start + IDS_PER_QUERY]))
        return len(ids) - existing_count


async def deliveries_of(
    records: Iterable[Record], codec: Codec, webhook: Webhook, delivery_filter: DeliveryFilter
) -> list[Delivery]:
    """The deliveries of these records that the webhook would have got, whether it has them or not."""
    deliveries = []
    async for record in iterate_cooperatively(records):
        try:
            delivery = backfill_delivery(
                codec.decode(record.value or b""), record.appended_at, webhook, delivery_filter
            )
        except (InvalidRecord, Invalid):
            # fan-out has stored the record as invalid.
            continue
        if delivery is not None:
            deliveries.append(delivery)
    return deliveries
