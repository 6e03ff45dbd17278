"""The form that creates or edits a webhook."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.forms import Form, SentForm, with_query
from api.shell.once import acts_once, new_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import MayWriteWebhooks, Visit
from api.webhooks.filter_model import EXAMPLE
from streams.core import event as events
from streams.core.errors import FieldError, Invalid
from streams.core.event_data import EVENT_TYPES
from streams.core.event_filter import filter_value
from streams.core.webhook import ALL_EVENTS, DEFAULT_MAX_CONCURRENCY, Registration
from streams.features.webhooks.input import WebhookInput, webhook_input
from streams.features.webhooks.latest_events import ComparedEvent
from streams.features.webhooks.samples import sample_event
from streams.features.webhooks.service import Changed

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# The name of the button that compares and does not save.
COMPARE = "compare"
# What each type says, for the form.
TYPES = {
    "session.launched": "a learner opened a course",
    "session.completed": "a learner finished a course, passed or failed",
    "session.scored": "a score was recorded",
    "session.ended": "a learner left a course, with or without a result",
    "session.reset": "a course took back that it was completed or passed",
    "package.updated": "a new version of a package is there",
    "usage.threshold": "the plan's launches are nearly used, or used up",
}
assert TYPES.keys() == EVENT_TYPES.keys()
# The same page has the same text each time.
_EXAMPLE_AT = datetime(2026, 4, 10, 14, 32, tzinfo=UTC)


@router.get("/webhooks/new")
async def new_page(visit: MayWriteWebhooks) -> Response:
    return _form_page(visit, None, _empty())


@router.post("/webhooks/new")
async def create(visit: MayWriteWebhooks, form: SentForm) -> Response:
    """Register a webhook, or say which of the latest events it would get."""
    return await (_compare(visit, form, None) if form[COMPARE] else _create(visit=visit, form=form))


@acts_once
async def _create(visit: Visit, form: Form) -> Response:
    """The next page shows its secret."""
    try:
        entered = WebhookInput(visit.account.id, **_entered(form, None))
        made = await visit.services.webhooks.register(entered, actor=visit.actor)
    except Invalid as wrong:
        return _form_page(visit, None, _kept(form), wrong.errors)
    return _to_page(made.changed, new=1)


@router.get("/webhooks/{webhook_id}/edit")
async def edit_page(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    return _form_page(visit, known, {**_fields_of(webhook_input(known)), "version": known.webhook.version})


@router.post("/webhooks/{webhook_id}/edit")
async def edit(webhook_id: str, visit: MayWriteWebhooks, form: SentForm) -> Response:
    known = await visit.services.webhooks.find(webhook_id, visit.account.id)
    if form[COMPARE]:
        return await _compare(visit, form, known)
    try:
        changes = _entered(form, known)
        version = form.number("version", "version", 0) or None
        changed = await visit.services.webhooks.change(
            webhook_id, changes, actor=visit.actor, account_id=visit.account.id, version=version
        )
    except Invalid as wrong:
        # The version that the person saw: what another one saved meanwhile is not overwritten.
        return _form_page(visit, known, {**_kept(form), "version": form["version"]}, wrong.errors)
    return _to_page(changed, done="saved")


async def _compare(visit: Visit, form: Form, registration: Registration | None) -> Response:
    """The form as it is, with the latest events that a webhook saved like this would get. Nothing is saved."""
    kept = {**_kept(form), "version": form["version"]}
    try:
        entered = WebhookInput(visit.account.id, **_entered(form, registration))
        compared = await visit.services.latest_events.compare(entered)
    except Invalid as wrong:
        return _form_page(visit, registration, kept, wrong.errors)
    return _form_page(visit, registration, kept, compared=compared)


def _to_page(changed: Changed, **act: object) -> Response:
    """The webhook's page, with the first host that does not resolve."""
    unresolved = next(iter(changed.unresolved), None)
    return redirect(with_query(f"/webhooks/{changed.registration.webhook.id}", **act, unresolved=unresolved))


def _form_page(
    visit: Visit,
    registration: Registration | None,
    fields: Mapping[str, Any],
    errors: tuple[FieldError, ...] = (),
    compared: Sequence[ComparedEvent] | None = None,
) -> Response:
    return render(
        visit,
        "webhook_form.html",
        errors=_of_form(errors),
        known=registration,
        fields=fields,
        types=TYPES,
        all_events=ALL_EVENTS,
        once=new_once(),
        sample=json.dumps(json.loads(example_body("session.completed", _EXAMPLE_AT)), indent=2),
        compare=COMPARE,
        compared=compared,
        matching=sum(one.why_not is None for one in compared or ()),
        filter_example=json.dumps(EXAMPLE),
    )


def _of_form(errors: tuple[FieldError, ...]) -> tuple[FieldError, ...]:
    """The errors with those of a filter's fields as one of the text field."""
    of_filter = [error for error in errors if error.field.startswith("filter.")]
    if not of_filter:
        return errors
    sentences = (f"“{error.field.removeprefix('filter.')}” {error.message}" for error in of_filter)
    return (*(error for error in errors if error not in of_filter), FieldError("filter", "; ".join(sentences)))


def example_body(event_type: str, now: datetime) -> bytes:
    """The body of an event of this type, as an endpoint gets it."""
    return events.render(replace(sample_event(event_type, "evt_example", "", now), test=False))


def _empty() -> dict[str, Any]:
    return _fields_of(WebhookInput("", ""))


def _fields_of(known: WebhookInput) -> dict[str, Any]:
    return {
        "url": known.url,
        "description": known.description,
        "events": list(known.events),
        "packages": "\n".join(known.packages),
        "dispatches": "\n".join(known.dispatches),
        "fallback_url": known.fallback_url or "",
        "headers": "",
        "fallback_headers": "",
        "max_concurrency": str(known.max_concurrency),
        "filter": json.dumps(known.filter, ensure_ascii=False) if known.filter else "",
        "no_headers": "",
        "no_fallback_headers": "",
    }


def _kept(form: Form) -> dict[str, Any]:
    """What was typed."""
    return {**{name: form[name] for name in _empty()}, "events": form.all("events")}


def _entered(form: Form, registration: Registration | None) -> dict[str, Any]:
    """The input of a form. Headers are never shown: left empty in an edit, they stay. Raises `Invalid`."""
    entered: dict[str, Any] = {
        "url": form["url"],
        "description": form["description"],
        "events": form.all("events") or [ALL_EVENTS],
        "packages": form.lines("packages"),
        "dispatches": form.lines("dispatches"),
        "fallback_url": form["fallback_url"] or None,
        "max_concurrency": form.number("max_concurrency", "maxConcurrency", DEFAULT_MAX_CONCURRENCY),
        "filter": filter_value(form["filter"]) if form["filter"] else None,
    }
    for name, label in (("headers", "headers"), ("fallback_headers", "fallbackHeaders")):
        if form[name] or registration is None or form[f"no_{name}"]:
            entered[name] = _headers(form.lines(name), label)
    return entered


def _headers(lines: list[str], label: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, sign, value = line.partition(":")
        if not sign:
            raise Invalid(FieldError(label, f"{line[:40]!r} is not a header: write one a line, as in X-Key: value"))
        headers[name.strip()] = value.strip()
    return headers
