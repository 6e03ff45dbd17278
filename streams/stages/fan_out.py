"""fan-out: join each event with the webhooks that want it, and produce one delivery for each."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import compress
from typing import NamedTuple

from streams.core.delivery import Delivery, SubscriptionsPosition
from streams.core.errors import Invalid, InvalidRecord
from streams.core.event import Event, event_and_body, event_hash, subjects_of_event
from streams.core.pure import pure
from streams.core.rate import RateLimits
from streams.core.subscriptions_table import END_CHECK_INTERVAL_SECONDS
from streams.core.trace import SpanName
from streams.core.webhook import Webhook, closest_mismatch, mismatch_reason
from streams.outage import SCHEMA_REGISTRY, Outages
from streams.ports import EventCodec, Outgoing, Record, RecordProducer, Span, Subscriptions, Telemetry
from streams.stages.invalid_records import produce_or_store_invalid, store_invalid
from streams.topics import BULK_DELIVERIES, DELIVERIES

# A backlog must not flood a webhook that was registered long after the events happened.
NEWCOMER_DELAY = timedelta(minutes=5)
RETRY_SECONDS = 1.0
# An account's share of `deliveries`, in this process: so many deliveries in these seconds, all at once if need be.
ACCOUNT_SHARE_DELIVERIES, ACCOUNT_SHARE_SECONDS = 500, 5

# An event with its body, or what is wrong with the record.
DecodeResult = tuple[Event, bytes] | InvalidRecord | Invalid


class FanOutResult(NamedTuple):
    """An event with its deliveries, their records and its span; `unmatched_reason` is why there is no delivery."""

    event: Event
    deliveries: Sequence[Delivery]
    outgoing: Sequence[Outgoing]
    unmatched_reason: str | None
    span: Span


class FanOut:
    """Turns one event into n deliveries. The caller acknowledges a batch when `handle` returned.

    An account that has used up its share of `deliveries` for the moment gets its deliveries by way of
    `deliveries.bulk`, which `deliver` reads behind the others.
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

    def account_of(self, record: Record) -> str:
        """The account of an event that is not decoded yet; "" when the record does not tell."""
        return self._codec.account_of(record.value or b"")

    def cost_of(self, account_id: str) -> int:
        """How many deliveries an event of this account may become, at least 1."""
        return max(1, self._subscriptions.count_of_account(account_id))

    async def handle(self, records: Sequence[Record]) -> None:
        """Fan out a batch of events. Returns when every delivery is acknowledged."""
        decoded_events = [await self._read_with_retry(record) for record in records]
        position = await self._subscriptions.catch_up(END_CHECK_INTERVAL_SECONDS)
        outgoing: list[tuple[Outgoing, Record]] = []
        results: list[FanOutResult] = []
        invalid: list[tuple[Record, str]] = []
        for record, result in zip(records, decoded_events, strict=True):
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
        await store_invalid(self._producer, self._telemetry, invalid)

    async def _read_with_retry(self, record: Record) -> DecodeResult:
        """Decode a record, or return what is wrong with it. Waits through an outage of the schema registry."""

        async def read_once() -> DecodeResult:
            return self._read(record)

        try:
            return await self._outages.retry(read_once, RETRY_SECONDS, SCHEMA_REGISTRY)
        except (InvalidRecord, Invalid) as error:
            return error

    def _fan_out(self, record: Record, event: Event, body: bytes, position: SubscriptionsPosition) -> FanOutResult:
        """One delivery for each webhook that wants the event. Raises `InvalidRecord`.

        What is pure is tried again; spans and shares are not, because events share them.
        """
        span = self._telemetry.span(SpanName.FAN_OUT, event.trace_parent, record.appended_at)
        try:
            deliveries, reason = self._make_deliveries(record, event, body, position, span.trace_parent)
            values = self._encode(deliveries)
        except (InvalidRecord, Invalid):
            span.end({}, "invalid")
            raise
        topic = self._choose_topic(event.account_id, len(deliveries))
        outgoing = [
            Outgoing(topic, delivery.webhook_id.encode(), value)
            for delivery, value in zip(deliveries, values, strict=True)
        ]
        return FanOutResult(event, deliveries, outgoing, reason, span)

    @pure
    def _make_deliveries(
        self,
        record: Record,
        event: Event,
        body: bytes,
        position: SubscriptionsPosition,
        trace_parent: str | None,
    ) -> tuple[Sequence[Delivery], str | None]:
        """The deliveries of an event, and why there are none."""
        webhooks = self._subscriptions.of_account(event.account_id)
        mismatches = [mismatch_reason(candidate, event) for candidate in webhooks]
        recipients = [
            candidate
            for candidate, reason in zip(webhooks, mismatches, strict=True)
            if reason is None and not _is_newcomer(candidate, record.appended_at)
        ]
        # Most events of many accounts are wanted by no webhook.
        subjects, digest = (subjects_of_event(event), event_hash(body)) if recipients else (None, None)
        deliveries = [
            Delivery(
                account_id=event.account_id,
                event_id=event.id,
                event_type=event.type,
                webhook_id=webhook.id,
                first_seen_at=record.appended_at,
                subscriptions_position=position,
                body=body,
                trace_parent=trace_parent,
                subjects=subjects,
                event_hash=digest,
            )
            for webhook in recipients
        ]
        return deliveries, None if recipients else closest_mismatch(mismatches)

    @pure
    def _encode(self, deliveries: Sequence[Delivery]) -> list[bytes]:
        encode = self._codec.encode
        return [encode(delivery) for delivery in deliveries]

    def _choose_topic(self, account_id: str, deliveries: int) -> str:
        has_share, _ = self._shares.take(account_id, self._now(), deliveries)
        return DELIVERIES if has_share else BULK_DELIVERIES

    def _record_result(self, result: FanOutResult, deliveries: Sequence[Delivery]) -> None:
        """Count and log an event, with its deliveries that are acknowledged."""
        event, _, _, unmatched_reason, span = result
        self._telemetry.count("events_total", type=event.type)
        self._telemetry.count("deliveries_created_total", len(deliveries))
        if unmatched_reason is not None:
            self._telemetry.count("events_unmatched_total", reason=unmatched_reason)
        if self._telemetry.is_debug_enabled:
            for delivery in deliveries:
                self._telemetry.debug("delivery_created", **delivery.ids)
            if unmatched_reason is not None:
                ids = {"event_id": event.id, "account_id": event.account_id}
                self._telemetry.debug("event_unmatched", **ids, reason=unmatched_reason)
        if span.is_recording:
            ids = {"event_id": event.id, "event_type": event.type, "account_id": event.account_id}
            span.end({**ids, "deliveries": len(deliveries)})

    @pure
    def _read(self, record: Record) -> tuple[Event, bytes]:
        return event_and_body(self._codec.decode(record.value or b""), record.appended_at)


def _is_newcomer(webhook: Webhook, appended_at: datetime) -> bool:
    """Whether the webhook was registered long after the event happened."""
    return webhook.created_at is not None and webhook.created_at - appended_at > NEWCOMER_DELAY
