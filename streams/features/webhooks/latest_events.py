"""The latest events of an account, and which of them an edited webhook, saved or not, would get."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.erasures.erased_events import IS_NOT_ERASED
from streams.adapters.sql.tables.deliveries import deliveries, events
from streams.core.deliveries.delivery import Trigger
from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.events.event import Event, parse_event
from streams.core.webhooks.webhook import MismatchReason, Webhook, mismatch_reason
from streams.core.webhooks.webhook_input import WebhookInput
from streams.features.shared.newest_events import NewestEventReader
from streams.features.webhooks.input import input_errors, to_webhook_fields
from streams.ports.runtime import Clock

MAX_EVENTS = 50
# An event with many webhooks has as many deliveries, so fewer events are found.
MAX_DELIVERIES_READ = 2_000
# The input fields that decide which events a webhook gets.
_MATCHING_FIELDS = ("events", "packages", "dispatches", "filter")


@dataclass(frozen=True, slots=True)
class LatestEvents:
    """The latest events, newest first.

    The events without a delivery are complete since `complete_since`; None means since the beginning of the topic.
    While Kafka is away, only events with a delivery are included, and `is_topic_read` is false.
    """

    events: Sequence[Event]
    complete_since: datetime | None = None
    is_topic_read: bool = True


@dataclass(frozen=True, slots=True)
class FilterPreview:
    """An event, and why the webhook would not get it; None if it would."""

    event: Event
    mismatch: str | None


class SqlLatestEvents(SqlStorage):
    """Reads bodies of events with a delivery: SQL has no others."""

    async def bodies(self, account_id: str) -> Sequence[bytes]:
        """The newest events of an account, newest first."""
        newest_deliveries = (
            select(deliveries.c.event_id, deliveries.c.first_seen_at)
            .where(deliveries.c.account_id == account_id, deliveries.c.trigger != Trigger.TEST, IS_NOT_ERASED)
            .order_by(deliveries.c.first_seen_at.desc(), deliveries.c.id.desc())
            .limit(MAX_DELIVERIES_READ)
            .subquery()
        )
        seen_at = func.max(newest_deliveries.c.first_seen_at).label("seen_at")
        portion = (
            select(newest_deliveries.c.event_id, seen_at)
            .group_by(newest_deliveries.c.event_id)
            .order_by(seen_at.desc(), newest_deliveries.c.event_id)
            .limit(MAX_EVENTS)
            .subquery()
        )
        query = (
            select(events.c.body)
            .join(portion, portion.c.event_id == events.c.event_id)
            .where(events.c.account_id == account_id)
            .order_by(portion.c.seen_at.desc(), portion.c.event_id)
        )
        return [row.body for row in await self._database.rows(query)]


@dataclass
class LatestEventService:
    """Finds the latest events: in SQL the ones that a webhook got, and on the topic all events of the last days."""

    _latest_events: SqlLatestEvents
    _topic: NewestEventReader
    _clock: Clock

    async def latest(self, account_id: str) -> LatestEvents:
        """The latest events, at most `MAX_EVENTS`. A topic of many accounts is read for two seconds."""
        events = {event.id: event for event in await self.delivered(account_id)}
        try:
            newest = await self._topic.read(account_id, MAX_EVENTS)
        except Unavailable:
            return LatestEvents(_newest_first(events.values()), is_topic_read=False)
        events |= {appended.event.id: appended.event for appended in newest.events}
        return LatestEvents(_newest_first(events.values()), newest.complete_since)

    async def delivered(self, account_id: str) -> Sequence[Event]:
        """The events that a webhook got, newest first: at most `MAX_EVENTS`."""
        events = []
        for body in await self._latest_events.bodies(account_id):
            if (event := self._event(body, account_id)) is not None:
                events.append(event)
            # A body may have 64 KiB: let other callers run between two bodies.
            await asyncio.sleep(0)
        return events

    def preview(
        self, latest_events: LatestEvents, webhook_input: WebhookInput, webhook_id: str = ""
    ) -> Sequence[FilterPreview]:
        """Preview which of these events a webhook would get, a new one or the one with this id.

        Raises `Invalid` for wrong types, scopes and filters.
        """
        if errors := [error for error in input_errors(webhook_input) if _affects_matching(error)]:
            raise Invalid(*errors)
        webhook = Webhook(id=webhook_id, secrets=(), **to_webhook_fields(webhook_input))
        return [FilterPreview(event, _mismatch_text(webhook, event)) for event in latest_events.events]

    def _event(self, body: bytes, account_id: str) -> Event | None:
        """The event in a body; None for an event that these rules do not accept, such as a test."""
        try:
            return parse_event({**json.loads(body), "accountId": account_id}, default_id="", now=self._clock.now())
        except (Invalid, ValueError, TypeError, RecursionError):
            return None


def _newest_first(events: Iterable[Event]) -> Sequence[Event]:
    return sorted(events, key=lambda event: event.occurred_at, reverse=True)[:MAX_EVENTS]


def _affects_matching(error: FieldError) -> bool:
    return error.field.partition(".")[0] in _MATCHING_FIELDS


def _mismatch_text(webhook: Webhook, event: Event) -> str | None:
    match mismatch_reason(webhook, event):
        case None:
            return None
        case MismatchReason.FILTER if webhook.filter is not None:
            return webhook.filter.explain(event.data)
        case MismatchReason.SCOPE if event.data.get("webhookId") == webhook.id:
            return "it is about this webhook"
        case MismatchReason.SCOPE:
            return "its package and its dispatch are not listed"
        case _:
            return f"the webhook does not take {event.type}"
