"""fan-out: join each event with the webhooks that want it, and produce one delivery for each."""

import time
from collections.abc import Callable, Sequence
from itertools import compress
from typing import NamedTuple

from streams.core.deliveries.delivery import Delivery, SubscriptionsPosition
from streams.core.errors import Invalid, InvalidRecord
from streams.core.events.event import Event, event_and_body
from streams.core.events.event_costs import EventCosts
from streams.core.events.matching import match
from streams.core.events.trace import SpanName
from streams.core.queues.rate import RateLimits
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.subscriptions_table import END_CHECK_INTERVAL_SECONDS
from streams.outage import SCHEMA_REGISTRY, Outages
from streams.ports.delivery import Subscriptions
from streams.ports.kafka import EventCodec, Outgoing, Record, RecordProducer
from streams.ports.runtime import Span, Telemetry
from streams.stages.consuming.event_reader import EventReader
from streams.stages.consuming.read_ahead import LARGE_BATCH
from streams.stages.invalid_records import produce_or_store_invalid, store_invalid
from streams.topics import BULK_DELIVERIES, DELIVERIES, HELD

RETRY_SECONDS = 1.0
# An account's share of `deliveries`, in this process: this many deliveries in these seconds, all at once if necessary.
ACCOUNT_SHARE_DELIVERIES, ACCOUNT_SHARE_SECONDS = 500, 5

# An event with its body, or what is wrong with the record.
ReadResult = tuple[Event, bytes] | InvalidRecord | Invalid


class FanOutResult(NamedTuple):
    """An event with its deliveries, their records and its span; `unmatched_reason` is why there is no delivery."""

    event: Event
    deliveries: Sequence[Delivery]
    outgoing: Sequence[Outgoing]
    unmatched_reason: str | None
    span: Span


class FanOut:
    """Turns one event into n deliveries. Deliveries to pull webhooks are held at once.

    An account that has used up its share of `deliveries` for the moment gets its deliveries through
    `deliveries.bulk`, which `deliver` reads behind the others (docs/decisions/0020).
    """

    def __init__(
        self,
        codec: EventCodec,
        subscriptions: Subscriptions,
        producer: RecordProducer,
        telemetry: Telemetry,
        outages: Outages,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._codec = codec
        self._subscriptions = subscriptions
        self._producer = producer
        self._telemetry = telemetry
        self._outages = outages
        self._now = now
        self._shares = RateLimits(ACCOUNT_SHARE_DELIVERIES, ACCOUNT_SHARE_SECONDS)
        self._costs = EventCosts()

    async def run(self, reader: EventReader) -> None:
        """Fan out one batch after another, in which accounts take turns, until cancelled."""
        while True:
            async with reader.next_batch(self.deliveries_per_event) as batch:
                batch.handled_count = await self.handle(batch.records)
            # They are done only now, so the commit may pass them.

    def deliveries_per_event(self, account_id: str) -> int:
        """How many deliveries an event of this account is expected to become, at least 1."""
        return self._costs.deliveries_per_event(account_id, self._subscriptions.count_of_account(account_id))

    async def handle(self, records: Sequence[Record]) -> int:
        """Fan out a batch of events. Returns their number when all their deliveries are acknowledged.

        It leaves the rest if they become more deliveries than a batch may have: other accounts have their turn first.
        """

        async def read_all() -> list[ReadResult]:
            return [self._read(record) for record in records]

        events = await self._outages.retry(read_all, RETRY_SECONDS, SCHEMA_REGISTRY)
        position = await self._subscriptions.catch_up(END_CHECK_INTERVAL_SECONDS)
        outgoing: list[tuple[Outgoing, Record]] = []
        results: list[FanOutResult] = []
        invalid: list[tuple[Record, str]] = []
        handled_count = 0
        for record, result in zip(records, events, strict=True):
            if len(outgoing) >= LARGE_BATCH:
                break
            handled_count += 1
            try:
                if isinstance(result, Exception):
                    raise result
                results.append(self._fan_out(record, *result, position))
            except (InvalidRecord, Invalid) as error:
                invalid.append((record, str(error)))
            else:
                outgoing += [(one, record) for one in results[-1].outgoing]
        refused_indexes = await produce_or_store_invalid(self._producer, self._telemetry, outgoing)
        first_index = 0
        for fan_out_result in results:
            end = first_index + len(fan_out_result.deliveries)
            is_acknowledged = [index not in refused_indexes for index in range(first_index, end)]
            self._record_result(fan_out_result, list(compress(fan_out_result.deliveries, is_acknowledged)))
            first_index = end
        if invalid:
            await store_invalid(self._producer, self._telemetry, invalid)
        return handled_count

    def _read(self, record: Record) -> ReadResult:
        """The event of a record, or what is wrong with it. Raises `Unavailable` without the schema registry."""
        try:
            return self._decode(record)
        except (InvalidRecord, Invalid) as error:
            return error

    @invalid_on_failure
    def _decode(self, record: Record) -> tuple[Event, bytes]:
        return event_and_body(self._codec.decode(record.value or b""), record.appended_at)

    def _fan_out(self, record: Record, event: Event, body: bytes, position: SubscriptionsPosition) -> FanOutResult:
        """One delivery for each webhook that wants the event. Raises `InvalidRecord`.

        Pure work is tried again; spans and shares are not, because events share them.
        """
        span = self._telemetry.span(SpanName.FAN_OUT, event.trace_parent, record.appended_at)
        try:
            deliveries, values, reason = self._match(record, event, body, position, span.trace_parent)
        except (InvalidRecord, Invalid):
            span.end({}, "invalid")
            raise
        self._costs.note(event.account_id, len(deliveries))
        has_share, _ = self._shares.take(event.account_id, self._now(), len(deliveries))
        topic = DELIVERIES if has_share else BULK_DELIVERIES
        outgoing = [
            Outgoing(HELD if delivery.hold_reason else topic, delivery.webhook_id.encode(), value)
            for delivery, value in zip(deliveries, values, strict=True)
        ]
        return FanOutResult(event, deliveries, outgoing, reason, span)

    @invalid_on_failure
    def _match(
        self, record: Record, event: Event, body: bytes, position: SubscriptionsPosition, trace_parent: str | None
    ) -> tuple[Sequence[Delivery], Sequence[bytes], str | None]:
        """The deliveries of an event with their encoded values, and why there are none."""
        webhooks = self._subscriptions.of_account(event.account_id)
        deliveries, reason = match(event, body, webhooks, record.appended_at, position, trace_parent)
        return deliveries, [self._codec.encode(delivery) for delivery in deliveries], reason

    def _record_result(self, result: FanOutResult, deliveries: Sequence[Delivery]) -> None:
        """Count and log an event, with its deliveries that are acknowledged."""
        event, _, _, unmatched_reason, span = result
        self._telemetry.count("events_total", type=event.type)
        self._telemetry.count("deliveries_created_total", len(deliveries))
        if unmatched_reason is not None:
            self._telemetry.count("events_unmatched_total", reason=unmatched_reason)
        for delivery in deliveries:
            if delivery.hold_reason is not None:
                self._telemetry.count("deliveries_held_total", reason=str(delivery.hold_reason))
        if self._telemetry.is_debug_enabled:
            for delivery in deliveries:
                self._telemetry.debug("delivery_created", **delivery.ids)
            if unmatched_reason is not None:
                ids = {"event_id": event.id, "account_id": event.account_id}
                self._telemetry.debug("event_unmatched", **ids, reason=unmatched_reason)
        if span.is_recording:
            ids = {"event_id": event.id, "event_type": event.type, "account_id": event.account_id}
            span.end({**ids, "deliveries": len(deliveries)})
