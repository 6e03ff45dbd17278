"""The page of events: the latest events, the webhooks that want each, and the events that a filter matches."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.rows import names_by_id
from api.shell.visits import SignedIn, Visit
from api.webhooks.filter_model import EXAMPLE
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import Event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.events.event_filter import EventFilter, filter_conflicts, parse_filter, parse_filter_json
from streams.core.webhooks.webhook import MismatchReason
from streams.features.events.search import EventRecipients

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# The maximum number of named webhooks that want one event; the others are only counted.
MAX_NAMES_SHOWN = 3
_REASONS = {
    MismatchReason.NO_WEBHOOK: "the account has no webhook",
    MismatchReason.TYPE: "no webhook takes this type",
    MismatchReason.SCOPE: "its package and its dispatch are not listed by any webhook",
    MismatchReason.FILTER: "the filter of no webhook takes it",
    MismatchReason.NO_ACCOUNT: "the account does not exist",
}


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of the list: the webhooks that want it, or why none does; and whether the filter matches, or why not."""

    event: Event
    wanted_by: str
    unwanted_because: str
    mismatch: str | None = None


@router.get("/events")
async def events_page(visit: SignedIn) -> Response:
    """The latest 50 events; with a filter in the URL, also which of them match."""
    errors: tuple[FieldError, ...] = ()
    event_filter: EventFilter | None = None
    try:
        event_filter = _filter_of(visit.query["filter"])
    except Invalid as error:
        errors = (FieldError("filter", "; ".join(map(str, error.errors))),)
    latest = await visit.services.latest_events.latest(visit.account.id)
    rows = await _rows(visit, latest.events, event_filter)
    return render(
        visit,
        "events.html",
        errors=errors,
        rows=rows,
        latest=latest,
        filter=visit.query["filter"],
        is_filtered=event_filter is not None,
        matching=sum(row.mismatch is None for row in rows),
        filter_example=json.dumps(EXAMPLE),
    )


def _filter_of(text: str) -> EventFilter | None:
    """Parse a filter. Raises `Invalid`."""
    if not text:
        return None
    event_filter = parse_filter(parse_filter_json(text))
    if errors := filter_conflicts(event_filter, EVENT_TYPES):
        raise Invalid(*errors)
    return event_filter


async def _rows(visit: Visit, events: Sequence[Event], event_filter: EventFilter | None) -> list[EventRow]:
    recipients = await visit.services.event_search.recipients(visit.account.id, events)
    shown_ids = {webhook_id for one in recipients for webhook_id in (one.webhook_ids or ())[:MAX_NAMES_SHOWN]}
    names = await names_by_id(visit, shown_ids)
    return [
        EventRow(
            event,
            _wanted_by(recipient, names),
            _unwanted_because(recipient),
            event_filter.explain(event.data) if event_filter else None,
        )
        for event, recipient in zip(events, recipients, strict=True)
    ]


def _wanted_by(recipients: EventRecipients, names: Mapping[str, str]) -> str:
    if recipients.webhook_ids is None:
        return "too many webhooks to compare"
    shown_names = [names.get(webhook_id, webhook_id) for webhook_id in recipients.webhook_ids[:MAX_NAMES_SHOWN]]
    omitted = len(recipients.webhook_ids) - len(shown_names)
    return ", ".join(shown_names) + (f" and {omitted} more" if omitted else "")


def _unwanted_because(recipients: EventRecipients) -> str:
    if recipients.reason is None:
        return ""
    reason = _REASONS[recipients.reason]
    return f"{reason}: {recipients.detail.partition(': ')[2]}" if recipients.detail else reason
