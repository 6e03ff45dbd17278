"""Count the events of `session-events` that a webhook has no delivery of."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streams.core.account import DeliveryFilter
from streams.core.backfill import Period, advanced, backfilled, not_empty
from streams.core.delivery import Delivery
from streams.core.delivery_state import recorded_event
from streams.core.errors import Invalid, InvalidRecord
from streams.core.webhook import Webhook
from streams.features.replays.rules import MissingEvents
from streams.features.shared.account_turns import AccountTurns
from streams.features.shared.in_turns import in_turns
from streams.ports import Codec, DeliveryLog, ErasedEvents, EventHistory, HistoryPortion, Record

# A person waits for the count: it stops after this many records or seconds, and says so.
COUNTED_RECORDS = 100_000
COUNTING_SECONDS = 5.0
RECORDS_AT_ONCE = 2000
IDS_AT_ONCE = 500
# Each count reads a topic in this process.
COUNTS_AT_ONCE = 2


@dataclass
class MissingEventCounter:
    """`history` is called for each count, so that nothing else needs Kafka."""

    _history: Callable[[], EventHistory]
    _deliveries: DeliveryLog
    _erased: ErasedEvents
    _codec: Codec
    _turns: AccountTurns = field(default_factory=lambda: AccountTurns(COUNTS_AT_ONCE))

    async def count(self, webhook: Webhook, wanted: DeliveryFilter) -> MissingEvents:
        """Read the topic until the end of the period, or until the count takes too long. Raises `Unavailable`."""
        assert wanted.since is not None
        assert wanted.until is not None
        async with self._turns.turn(webhook.account_id):
            history = self._history()
            period = await history.period(wanted.since, wanted.until)
            return await self._count(history, period, webhook, wanted)

    async def _count(
        self, history: EventHistory, period: Period, webhook: Webhook, wanted: DeliveryFilter
    ) -> MissingEvents:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + COUNTING_SECONDS
        ranges, found, read = not_empty(period.ranges), 0, 0
        while ranges and read < COUNTED_RECORDS and loop.time() < deadline:
            portion = await history.read(ranges, RECORDS_AT_ONCE)
            found += await self._missing(portion, webhook, wanted)
            ranges, read = advanced(ranges, portion.positions), read + len(portion.records)
        return MissingEvents(found, bool(ranges), period.oldest_available)

    async def _missing(self, portion: HistoryPortion, webhook: Webhook, wanted: DeliveryFilter) -> int:
        """How many deliveries of a portion do not exist."""
        made = await deliveries_of(portion.records, self._codec, webhook, wanted)
        found = {(one.account_id, one.event_id): one for one in made}
        if not found:
            return 0
        erased = await self._erased.erased_among({key: recorded_event(one) for key, one in found.items()})
        ids, existing = sorted(one.id for key, one in found.items() if key not in erased), 0
        for start in range(0, len(ids), IDS_AT_ONCE):
            existing += len(await self._deliveries.existing(ids[start : start + IDS_AT_ONCE]))
        return len(ids) - existing


async def deliveries_of(
    records: Iterable[Record], codec: Codec, webhook: Webhook, wanted: DeliveryFilter
) -> list[Delivery]:
    """The deliveries of these records that the webhook would have got, whether it has them or not."""
    found = []
    async for record in in_turns(records):
        try:
            delivery = backfilled(codec.decode(record.value or b""), record.appended_at, webhook, wanted)
        except (InvalidRecord, Invalid):
            # fan-out has stored it as invalid.
            continue
        if delivery is not None:
            found.append(delivery)
    return found
