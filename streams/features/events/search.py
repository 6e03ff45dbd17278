"""Find an event: by its deliveries, or on `session-events`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ulid import ULID

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.events.event import Event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.times import format_time
from streams.core.webhooks.webhook import MismatchReason, Webhook, closest_mismatch, mismatch_reason
from streams.features.events.storage import SqlAccountWebhooks
from streams.features.shared.event_scan import EventScan, events_with
from streams.ports.kafka import Codec, EventHistory, Record
from streams.ports.runtime import Clock
from streams.ports.storage import DeliveryStore

MAX_DELIVERIES = 100
MAX_WEBHOOK_IDS = 100
# A person waits for the response.
SEARCH_TIMEOUT_SECONDS = 2.0
# An event is published soon after its id is made, but clocks differ.
SEARCH_AFTER_ID, SEARCH_BEFORE_ID = timedelta(minutes=10), timedelta(minutes=1)
SEARCH_AFTER_SINCE = timedelta(hours=1)
# No topic has an event of another time, and no broker knows times far beyond.
EARLIEST_TIME, LATEST_TIME = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


class EventRecipients(NamedTuple):
    """The webhooks that want an event now. If there are none, `reason` says why.

    `webhook_ids` is None if they are too many to compare. `detail` says which condition of a filter does not hold.
    """

    webhook_ids: Sequence[str] | None
    reason: MismatchReason | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event on the topic, and the webhooks that want it now, as in `EventRecipients`."""

    event: Event
    appended_at: datetime
    webhook_ids: Sequence[str] | None
    reason: MismatchReason | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """The newest deliveries of an event. If there are none, the event on the topic."""

    deliveries: Sequence[DeliveryState]
    published: PublishedEvent | None = None


@dataclass
class EventSearchService:
    """`_history` is called only when a search has to read the topic, so that nothing else needs Kafka."""

    _deliveries: DeliveryStore
    _webhooks: SqlAccountWebhooks
    _history: Callable[[], EventHistory]
    _codec: Codec
    _clock: Clock

    async def find(self, event_id: str, account_id: str, since: datetime | None = None) -> FoundEvent:
        """Find an event of an account.

        Without deliveries the topic is read for two seconds: one hour from `since` on, the minutes around the time in a
        generated id, or the last hour. Raises `Invalid` for a time of no topic, `NotFound` and `Unavailable`.
        """
        delivery_filter = DeliveryFilter(account_id=account_id, event_id=event_id, limit=MAX_DELIVERIES)
        if rows := (await self._deliveries.list(delivery_filter)).rows:
            return FoundEvent(rows)
        start, end = self._period(event_id, since)
        record, event = await self._search_topic(event_id, account_id, start, end)
        return FoundEvent((), await self._describe_event(record, event))

    def _period(self, event_id: str, since: datetime | None) -> tuple[datetime, datetime]:
        if since is not None:
            if not EARLIEST_TIME <= since <= LATEST_TIME:
                raise Invalid(FieldError("since", "must be when the event was published: the topic keeps days"))
            return since, since + SEARCH_AFTER_SINCE
        made_at = _time_of_id(event_id)
        if made_at is None or not EARLIEST_TIME <= made_at <= LATEST_TIME:
            # The producer chose this id itself.
            now = self._clock.now()
            return now - SEARCH_AFTER_SINCE, now + SEARCH_BEFORE_ID
        return made_at - SEARCH_BEFORE_ID, made_at + SEARCH_AFTER_ID

    async def _search_topic(
        self, event_id: str, account_id: str, start: datetime, end: datetime
    ) -> tuple[Record, Event]:
        scan = await EventScan.begin(self._history(), start, end, SEARCH_TIMEOUT_SECONDS)
        while scan.unread:
            async for record, event in events_with(event_id, await scan.read(), self._codec):
                if (event.id, event.account_id) == (event_id, account_id):
                    return record, event
            # It reads at least once, however long the search waited for its place.
            if scan.is_late:
                break
        period = f"between {format_time(start)} and {format_time(end)}"
        if scan.unread:
            raise NotFound(f"the search for {event_id} {period} took too long: set `since` to when it was published")
        raise NotFound(
            f"the account has no delivery of {event_id}, and session-events has no such event {period}; "
            "for another time set `since` to when it was published"
        )

    async def _describe_event(self, record: Record, event: Event) -> PublishedEvent:
        [recipients] = await self.recipients(event.account_id, [event])
        return PublishedEvent(event, record.appended_at, *recipients)

    async def recipients(self, account_id: str, events: Sequence[Event]) -> Sequence[EventRecipients]:
        """The account's webhooks that want each of these events now."""
        webhooks_by_account = await self._webhooks.webhooks_taking({account_id}, EVENT_TYPES)
        if webhooks_by_account is None:
            return [EventRecipients(None)] * len(events)
        webhooks = webhooks_by_account.get(account_id, ())
        if not webhooks and not await self._webhooks.existing_accounts([account_id]):
            return [EventRecipients((), MismatchReason.NO_ACCOUNT)] * len(events)
        found = []
        for event in events:
            found.append(_recipients_of(event, webhooks))
            # A thousand webhooks with long filters take 15 ms: let other work of the process run in between.
            await asyncio.sleep(0)
        return found


def _recipients_of(event: Event, webhooks: Sequence[Webhook]) -> EventRecipients:
    mismatches = [mismatch_reason(webhook, event) for webhook in webhooks]
    ids = [webhook.id for webhook, reason in zip(webhooks, mismatches, strict=True) if reason is None]
    reason = None if ids else closest_mismatch(mismatches)
    detail = _filter_detail(webhooks[mismatches.index(reason)], event) if reason is MismatchReason.FILTER else None
    return EventRecipients(ids[:MAX_WEBHOOK_IDS], reason, detail)


def _filter_detail(webhook: Webhook, event: Event) -> str:
    """The condition of this webhook's filter that does not hold."""
    assert webhook.filter is not None
    return f"{webhook.id}: {webhook.filter.explain(event.data)}"


def _time_of_id(event_id: str) -> datetime | None:
    """The time in a generated id; None for any other id."""
    try:
        return ULID.from_str(event_id.removeprefix("evt_")).datetime.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
