"""Backfill: deliveries for events of `session-events` for which a webhook has no delivery."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import Delivery, HoldReason, SubscriptionsPosition, Trigger
from streams.core.events.event import Event, event_and_body, event_hash, subjects_of_event
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.webhook import Webhook, wants

# A younger event may have a delivery that `record` has not stored yet.
MIN_EVENT_AGE = timedelta(seconds=15)


class OffsetRange(NamedTuple):
    """Offsets of one partition: from `start` up to `end`, exclusive."""

    partition: int
    start: int
    end: int


class Period(NamedTuple):
    """The offsets of a period, and the append time of the topic's oldest record; None for an empty topic."""

    ranges: tuple[OffsetRange, ...]
    oldest_available: datetime | None


@dataclass(frozen=True, slots=True)
class Backfill:
    """The progress of a backfill. `ranges` are the offsets not read yet; None until it begins.

    `is_due` is set when it may begin. `records` is the number of offsets to read, `added` counts the deliveries that it
    made, `skipped` the ones that exist already.
    """

    is_due: bool = False
    ranges: tuple[OffsetRange, ...] | None = None
    records: int = 0
    added: int = 0
    skipped: int = 0
    oldest_available: datetime | None = None

    @property
    def read(self) -> int:
        return self.records - _count_offsets(self.ranges) if self.ranges is not None else 0

    @property
    def is_fully_read(self) -> bool:
        return self.ranges is not None and not self.ranges

    def begin(self, period: Period) -> "Backfill":
        """The progress when the period's offsets are known."""
        ranges = without_empty(period.ranges)
        return replace(self, ranges=ranges, records=_count_offsets(ranges), oldest_available=period.oldest_available)

    def after_reading(self, positions: Mapping[int, int]) -> "Backfill":
        """The progress after reading up to these offsets, by partition."""
        return replace(self, ranges=remaining_ranges(self.ranges or (), positions))


def remaining_ranges(ranges: tuple[OffsetRange, ...], positions: Mapping[int, int]) -> tuple[OffsetRange, ...]:
    """The rest of the ranges after reading up to these offsets, by partition."""
    return without_empty(
        tuple(
            offset_range._replace(start=max(offset_range.start, positions.get(offset_range.partition, 0)))
            for offset_range in ranges
        )
    )


def without_empty(ranges: tuple[OffsetRange, ...]) -> tuple[OffsetRange, ...]:
    return tuple(offset_range for offset_range in ranges if offset_range.start < offset_range.end)


def _count_offsets(ranges: tuple[OffsetRange, ...] | None) -> int:
    return sum(offset_range.end - offset_range.start for offset_range in ranges or ())


@invalid_on_failure
def backfill_delivery(
    value: object, appended_at: datetime, webhook: Webhook, delivery_filter: DeliveryFilter
) -> Delivery | None:
    """The delivery that fan-out would make of this event for this webhook, held as a replay.

    None when the filter or the webhook does not want the event. Raises `InvalidRecord` and `Invalid`.
    """
    # Most events belong to another account: check that before the body is rendered.
    if (
        not isinstance(value, Event)
        or not wants(webhook, value)
        or not _matches_filter(value, appended_at, delivery_filter)
    ):
        return None
    event, body = event_and_body(value, appended_at)
    return Delivery(
        account_id=event.account_id,
        event_id=event.id,
        event_type=event.type,
        webhook_id=webhook.id,
        first_seen_at=appended_at,
        subscriptions_position=SubscriptionsPosition("", 0),
        body=body,
        trigger=Trigger.MANUAL,
        hold_reason=HoldReason.REPLAY,
        trace_parent=event.trace_parent,
        subjects=subjects_of_event(event),
        event_hash=event_hash(body),
    )


def _matches_filter(event: Event, appended_at: datetime, delivery_filter: DeliveryFilter) -> bool:
    return (
        (delivery_filter.event_types is None or event.type in delivery_filter.event_types)
        and (delivery_filter.since is None or appended_at >= delivery_filter.since)
        and (delivery_filter.until is None or appended_at < delivery_filter.until)
    )
