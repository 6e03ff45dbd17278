"""The form that creates or edits a webhook."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.shell.forms import Form, SentForm, with_query
from api.shell.once import new_form_key, run_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import MayWriteWebhooks, Visit
from api.webhooks.filter_model import EXAMPLE
from api.webhooks.filter_rows import CONDITIONS, chosen_filter, filter_fields, names_in, to_rows, typed_rows
from api.webhooks.option_fields import option_fields, parse_option_fields, plain_value
from streams.core.deliveries.rendering import render_body
from streams.core.errors import FieldError, Invalid
from streams.core.events import event as events
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES
from streams.core.events.event_filter import parse_filter, parse_filter_json
from streams.core.queues.request_class import RequestClass
from streams.core.webhooks.field_rules import to_camel_case
from streams.core.webhooks.webhook import ALL_EVENTS, DeliveryMode, Registration, Status
from streams.core.webhooks.webhook_input import FIELD_RULES, PEOPLE_FIELDS, WebhookInput
from streams.features.webhooks.input import to_webhook_input
from streams.features.webhooks.latest_events import FilterPreview, LatestEvents
from streams.features.webhooks.samples import sample_event
from streams.features.webhooks.service import ChangeResult

router = APIRouter(include_in_schema=False, route_class=PageRoute)

# The name of the button that compares but does not save.
COMPARE_BUTTON = "compare"
# The meaning of each type, for the form.
TYPE_DESCRIPTIONS = {
    "session.launched": "a learner opened a course",
    "session.completed": "a learner finished a course, passed or failed",
    "session.scored": "a score was recorded",
    "session.ended": "a learner left a course, with or without a result",
    "session.reset": "a course took back that it was completed or passed",
    "package.updated": "a new version of a package is there",
    "usage.threshold": "the plan's launches are nearly used, or used up",
    "webhook.failing": "another webhook has failed for five minutes",
    "webhook.paused": "another webhook was paused, or has been for a day",
    "webhook.recovered": "another webhook delivers again",
    "webhook.deadletters": "another webhook has had dead letters for a day",
    "webhook.secret.ending": "the old secret of another webhook ends within six hours",
    "webhook.certificate.ending": "the certificate of another webhook's endpoint ends within 14 days",
}
assert TYPE_DESCRIPTIONS.keys() == EVENT_TYPES.keys()
# The same page always has the same text.
EXAMPLE_TIME = datetime(2026, 4, 10, 14, 32, tzinfo=UTC)


@router.get("/webhooks/new")
async def new_page(visit: MayWriteWebhooks) -> Response:
    """An empty form; the page of events may give it a filter."""
    fields = _empty_fields()
    with suppress(Invalid):
        fields |= filter_fields(parse_filter(parse_filter_json(visit.query["filter"] or "null")).to_json())
    return await _form_page(visit, None, fields)


@router.post("/webhooks/new")
@in_class(RequestClass.SLOW)
async def create(visit: MayWriteWebhooks, form: SentForm) -> Response:
    """Register a webhook, or preview which of the latest events it would get."""
    return await (_preview(visit, form, None) if form[COMPARE_BUTTON] else _create(visit=visit, form=form))


@run_once
async def _create(visit: Visit, form: Form) -> Response:
    """Register a webhook; the next page shows its secret."""
    try:
        entered_input = WebhookInput(visit.account.id, **_parse_form(form, None))
        status = Status.PAUSED if form["paused"] else Status.ACTIVE
        result = await visit.services.webhooks.register(entered_input, status, actor=visit.actor)
    except Invalid as error:
        return await _form_page(visit, None, _form_values(form), error.errors)
    return _redirect_to_webhook(result.change, new=1)


@router.get("/webhooks/{webhook_id}/edit")
async def edit_page(webhook_id: str, visit: MayWriteWebhooks) -> Response:
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    return await _form_page(
        visit, registration, {**_fields_of(to_webhook_input(registration)), "version": registration.webhook.version}
    )


@router.post("/webhooks/{webhook_id}/edit")
@in_class(RequestClass.SLOW)
async def edit(webhook_id: str, visit: MayWriteWebhooks, form: SentForm) -> Response:
    registration = await visit.services.webhooks.find(webhook_id, visit.account.id)
    if form[COMPARE_BUTTON]:
        return await _preview(visit, form, registration)
    try:
        changes = _parse_form(form, registration)
        version = form.number("version", "version", 0) or None
        result = await visit.services.webhooks.change(
            webhook_id, changes, actor=visit.actor, account_id=visit.account.id, version=version
        )
    except Invalid as error:
        # The version that the person saw, so that newer changes by others are not overwritten.
        return await _form_page(visit, registration, {**_form_values(form), "version": form["version"]}, error.errors)
    return _redirect_to_webhook(result, done="saved")


async def _preview(visit: Visit, form: Form, registration: Registration | None) -> Response:
    """The form unchanged, with the latest events that a webhook saved like this would get. Nothing is saved."""
    form_values = {**_form_values(form), "version": form["version"]}
    try:
        entered_input = WebhookInput(visit.account.id, **_parse_form(form, registration))
        latest_events = await visit.services.latest_events.latest(visit.account.id)
        webhook_id = registration.webhook.id if registration else ""
        previews = visit.services.latest_events.preview(latest_events, entered_input, webhook_id)
    except Invalid as error:
        return await _form_page(visit, registration, form_values, error.errors)
    return await _form_page(visit, registration, form_values, previews=previews, latest=latest_events)


def _redirect_to_webhook(result: ChangeResult, **act: object) -> Response:
    """The webhook's page, with the first host that does not resolve."""
    unresolved_host = next(iter(result.unresolved_hosts), None)
    return redirect(with_query(f"/webhooks/{result.registration.webhook.id}", **act, unresolved=unresolved_host))


async def _form_page(
    visit: Visit,
    registration: Registration | None,
    fields: Mapping[str, Any],
    errors: tuple[FieldError, ...] = (),
    previews: Sequence[FilterPreview] | None = None,
    latest: LatestEvents | None = None,
) -> Response:
    events = latest.events if latest else await visit.services.latest_events.delivered(visit.account.id)
    return render(
        visit,
        "webhook_form.html",
        errors=_to_form_errors(errors),
        registration=registration,
        fields=fields,
        rules={name: (rule, to_camel_case(name)) for name, rule in FIELD_RULES.items()},
        people_fields=PEOPLE_FIELDS,
        types=TYPE_DESCRIPTIONS,
        opt_in_types=sorted(OPT_IN_TYPES),
        once=new_form_key(),
        sample=_sample(fields["fields"].splitlines()),
        compare=COMPARE_BUTTON,
        previews=previews,
        latest=latest,
        matching=sum(event.mismatch is None for event in previews or ()),
        filter_example=json.dumps(EXAMPLE),
        filter_conditions=CONDITIONS,
        filter_names=names_in(events),
        source_addresses=visit.services.source_addresses,
        user_agent=visit.services.user_agent,
    )


def _to_form_errors(errors: tuple[FieldError, ...]) -> tuple[FieldError, ...]:
    """The errors, with those of a filter's fields combined into one for the text field."""
    filter_errors = [error for error in errors if error.field.startswith("filter.")]
    if not filter_errors:
        return errors
    sentences = (f"“{error.field.removeprefix('filter.')}” {error.message}" for error in filter_errors)
    return (*(error for error in errors if error not in filter_errors), FieldError("filter", "; ".join(sentences)))


def example_body(event_type: str, now: datetime) -> bytes:
    """The body of an event of this type, as an endpoint gets it."""
    return events.render(replace(sample_event(event_type, "evt_example", "", now), test=False))


def _sample(fields: Sequence[str]) -> str:
    """What the endpoint gets, with these fields of `data`; without any, all."""
    body = render_body(example_body("session.completed", EXAMPLE_TIME), fields or None)
    return json.dumps(json.loads(body), indent=2)


def _empty_fields() -> dict[str, Any]:
    return _fields_of(WebhookInput(""))


def _fields_of(entered_input: WebhookInput) -> dict[str, Any]:
    return {
        "delivery": entered_input.delivery,
        "url": entered_input.url,
        **_event_fields(entered_input.events),
        "packages": "\n".join(entered_input.packages),
        "dispatches": "\n".join(entered_input.dispatches),
        "fallback_url": entered_input.fallback_url or "",
        "headers": "",
        "fallback_headers": "",
        **filter_fields(entered_input.filter),
        **option_fields(entered_input),
        "paused": "",
        "no_headers": "",
        "no_fallback_headers": "",
    }


def _form_values(form: Form) -> dict[str, Any]:
    """The values as they were typed."""
    lists = {name: form.values(name) for name in ("events", "also")}
    rows = [*typed_rows(form), *to_rows(None)] if form.values("filter_name") else []
    values = {name: form[name] for name in _empty_fields()}
    # Secrets are never shown: a person who typed one must type it again.
    secret_typed = "1" if form["password"] or form["client_secret"] or form["secret_typed"] else ""
    return {**values, **lists, "filter_rows": rows, "secret_typed": secret_typed}


def _parse_form(form: Form, registration: Registration | None) -> dict[str, Any]:
    """The input of a form. The hidden fields of the other delivery mode are ignored. Raises `Invalid`."""
    values: dict[str, Any] = {
        "delivery": form["delivery"] or DeliveryMode.PUSH,
        **{name: plain_value(form, name) for name in PEOPLE_FIELDS},
        "events": _chosen_events(form),
        "packages": form.lines("packages"),
        "dispatches": form.lines("dispatches"),
        "filter": chosen_filter(form),
        **parse_option_fields(form),
    }
    if values["delivery"] == DeliveryMode.PULL:
        return values
    values |= {
        "url": form["url"],
        "fallback_url": form["fallback_url"] or None,
        "max_concurrency": plain_value(form, "max_concurrency"),
    }
    # Headers are never shown: fields left empty in an edit keep them.
    for name, label in (("headers", "headers"), ("fallback_headers", "fallbackHeaders")):
        if form[name] and form[f"no_{name}"]:
            raise Invalid(FieldError(label, "are written here, and “Send none” is checked: choose one of both"))
        if form[name] or registration is None or form[f"no_{name}"]:
            values[name] = _headers(form.lines(name), label)
    return values


def _event_fields(entered_types: Sequence[str]) -> dict[str, Any]:
    """The chosen types; or all types, perhaps with some that are sent only to webhooks that name them."""
    if ALL_EVENTS in entered_types:
        return {"which": "all", "also": [name for name in entered_types if name != ALL_EVENTS], "events": []}
    return {"which": "some", "also": [], "events": list(entered_types)}


def _chosen_events(form: Form) -> list[str]:
    """The types of a form. Raises `Invalid` for choices that contradict each other: none of them may be ignored."""
    chosen_types, added_types = form.values("events"), form.values("also")
    if form["which"] != "some" and not (chosen_types and not form["which"]):
        if chosen_types:
            message = "you chose all types, and checked some: choose “These types” to get those alone, or uncheck them"
            raise Invalid(FieldError("events", message))
        return [ALL_EVENTS, *added_types]
    if added_types:
        raise Invalid(FieldError("events", f"you chose some types: check {added_types[0]} among them"))
    if not chosen_types:
        raise Invalid(FieldError("events", "choose at least one type, or all types"))
    return chosen_types


def _headers(lines: list[str], label: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator:
            raise Invalid(FieldError(label, f"{line[:40]!r} is not a header: write one a line, as in X-Key: value"))
        headers[name.strip()] = value.strip()
    return headers
