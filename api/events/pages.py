"""The page of events: the latest events, the webhooks that want each, and the events that a filter matches."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.shell.forms import Form
from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.rows import names_by_id
from api.shell.visits import SignedIn, Visit
from api.webhooks.filter_model import EXAMPLE
from api.webhooks.filter_rows import CONDITIONS, chosen_filter, filter_fields, names_in, to_rows, typed_rows
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import Event
from streams.core.events.event_data import EVENT_TYPES, WEBHOOK_TYPES
from streams.core.events.event_filter import EventFilter, filter_conflicts, parse_filter
from streams.core.queues.request_class import RequestClass
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
    """An event of the list: the webhooks that want it, or why none does; and whether the filter matches, or why not.

    `parts` name its learner, its course and its result.
    """

    event: Event
    parts: Sequence[str]
    wanted_by: str
    unwanted_because: str
    mismatch: str | None = None


@router.get("/events")
@in_class(RequestClass.SLOW)
async def events_page(visit: SignedIn) -> Response:
    """The latest 50 events; with a filter in the URL, also which of them match."""
    errors: tuple[FieldError, ...] = ()
    event_filter: EventFilter | None = None
    fields: dict[str, Any] = {name: visit.query[name] for name in ("filter", "filter_before")}
    fields["filter_rows"] = [*typed_rows(visit.query), *to_rows(None)]
    try:
        event_filter = _filter_of(visit.query)
        fields = filter_fields(event_filter.to_json() if event_filter else None)
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
        fields=fields,
        filter_conditions=CONDITIONS,
        filter_names=names_in(latest.events),
        is_filtered=event_filter is not None,
        matching=sum(row.mismatch is None for row in rows),
        filter_example=json.dumps(EXAMPLE),
    )


def _filter_of(query: Form) -> EventFilter | None:
    """The filter of the rows or of the JSON. Raises `Invalid`."""
    chosen = chosen_filter(query)
    if chosen is None:
        return None
    event_filter = parse_filter(chosen)
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
            _parts(event),
            _wanted_by(recipient, names),
            _unwanted_because(recipient, event),
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


def _parts(event: Event) -> Sequence[str]:
    """The learner, the course and the result, as far as the event has them."""
    data = event.data
    named = [data.get(name) for name in ("learnerId", "packageId", "webhookId", "completionStatus", "successStatus")]
    score = [] if data.get("scoreRaw") is None else [f"score {data['scoreRaw']:g}"]
    return [str(part) for part in (*named, *score) if part not in (None, "", "unknown")]


def _unwanted_because(recipients: EventRecipients, event: Event) -> str:
    if recipients.reason is None:
        return ""
    if recipients.reason is MismatchReason.SCOPE and event.type in WEBHOOK_TYPES:
        return "no webhook gets an event about itself"
    reason = _REASONS[recipients.reason]
    return f"{reason}: {recipients.detail.partition(': ')[2]}" if recipients.detail else reason
