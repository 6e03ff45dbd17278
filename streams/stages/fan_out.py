"""fan-out: join each event with the webhooks that want it, and produce one delivery for each."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from streams.core.delivery import Delivery, SubscriptionsPosition
from streams.core.errors import Invalid, InvalidRecord
from streams.core.event import Event, event_and_body
from streams.core.trace import SpanName
from streams.core.webhook import Webhook, unmatched_reason, wants
from streams.outage import SCHEMA_REGISTRY, Outages
from streams.ports import Codec, Outgoing, Record, RecordProducer, Span, Subscriptions, Telemetry
from streams.stages.invalid_records import produce_or_store_invalid, run_pure, store_invalid
from streams.topics import DELIVERIES

# A backlog must not flood a webhook that was registered long after the events happened.
NEWCOMER_AFTER = timedelta(minutes=5)
RETRY_SECONDS = 1.0
PRODUCE_AT_ONCE = 1000

# An event with its body, or what is wrong with the record.
Found = tuple[Event, bytes] | InvalidRecord | Invalid
# A span that ends when its deliveries are written, with its attributes.
EventSpan = tuple[Span, dict[str, str | int]]


class FanOut:
    """Turns one event into n deliveries. The caller acknowledges a batch when `handle` returned."""

    def __init__(
        self, codec: Codec, subscriptions: Subscriptions, producer: RecordProducer, telemetry: Telemetry
    ) -> None:
        self._codec = codec
        self._subscriptions = subscriptions
        self._producer = producer
        self._telemetry = telemetry
        self._outages = Outages(telemetry)

    async def handle(self, records: Sequence[Record]) -> None:
        """Fan out a batch of events. Returns when every delivery is acknowledged."""
        read = [await self._read_patiently(record) for record in records]
        seen = await self._subscriptions.catch_up()
        outgoing: list[tuple[Outgoing, Record]] = []
        spans: list[EventSpan] = []
        invalid: list[tuple[Record, str]] = []
        for record, found in zip(records, read, strict=True):
            try:
                if isinstance(found, Exception):
                    raise found
                outgoing += run_pure(partial(self._deliveries, record, *found, seen, spans))
            except (InvalidRecord, Invalid) as wrong:
                invalid.append((record, str(wrong)))
            if len(outgoing) >= PRODUCE_AT_ONCE:
                # An event may have a thousand deliveries, which would fill memory and block the loop.
                await self._produce(outgoing, spans)
                outgoing, spans = [], []
        await self._produce(outgoing, spans)
        await store_invalid(self._producer, self._telemetry, invalid)

    async def _read_patiently(self, record: Record) -> Found:
        """Decode a record, or return what is wrong with it. Waits through an outage of the schema registry."""

        async def step() -> Found:
            return run_pure(lambda: self._read(record))

        try:
            return await self._outages.retry(step, RETRY_SECONDS, SCHEMA_REGISTRY)
        except (InvalidRecord, Invalid) as wrong:
            return wrong

    async def _produce(self, outgoing: Sequence[tuple[Outgoing, Record]], spans: Sequence[EventSpan]) -> None:
        await produce_or_store_invalid(self._producer, self._telemetry, outgoing)
        for span, attributes in spans:
            span.end(attributes)

    def _deliveries(
        self, record: Record, event: Event, body: bytes, seen: SubscriptionsPosition, spans: list[EventSpan]
    ) -> list[tuple[Outgoing, Record]]:
        """One delivery for each webhook that wants the event. Its span is added to `spans`."""
        webhooks = self._wanting(event, record.appended_at)
        span = self._telemetry.span(SpanName.FAN_OUT, event.trace_parent, record.appended_at)
        deliveries = [
            Delivery(
                account_id=event.account_id,
                event_id=event.id,
                event_type=event.type,
                webhook_id=webhook.id,
                first_seen_at=record.appended_at,
                subscriptions_position=seen,
                body=body,
                trace_parent=span.trace_parent,
            )
            for webhook in webhooks
        ]
        outgoing = [Outgoing(DELIVERIES, one.webhook_id.encode(), self._codec.encode(one)) for one in deliveries]
        if self._telemetry.is_debug_enabled:
            for one in deliveries:
                self._telemetry.debug("delivery_created", **one.ids)
        if span.is_recording:
            ids = {"event_id": event.id, "event_type": event.type, "account_id": event.account_id}
            spans.append((span, {**ids, "deliveries": len(deliveries)}))
        self._telemetry.count("events_total", type=event.type)
        self._telemetry.count("deliveries_created_total", len(deliveries))
        return [(one, record) for one in outgoing]

    def _wanting(self, event: Event, appended_at: datetime) -> list[Webhook]:
        """The webhooks that want the event; if none does, count the reason."""
        webhooks = self._subscriptions.of_account(event.account_id)
        wanting = [webhook for webhook in webhooks if wants(webhook, event)]
        timely = [webhook for webhook in wanting if not _is_newcomer(webhook, appended_at)]
        if not timely:
            reason = unmatched_reason(webhooks, event)
            self._telemetry.count("events_unmatched_total", reason=reason)
            self._telemetry.debug("event_unmatched", event_id=event.id, account_id=event.account_id, reason=reason)
        return timely

    def _read(self, record: Record) -> tuple[Event, bytes]:
        return event_and_body(self._codec.decode(record.value or b""))


def _is_newcomer(webhook: Webhook, appended_at: datetime) -> bool:
    """Whether the webhook was registered long after the event happened."""
    return webhook.created_at is not None and webhook.created_at - appended_at > NEWCOMER_AFTER
