"""The input of a registration, and its checks."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from streams.core.deliveries.schedule import Schedule
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES
from streams.core.events.event_filter import filter_conflicts, parse_filter
from streams.core.ids import ID_DESCRIPTION, is_id
from streams.core.limits import (
    MAX_AUTH_CHARACTERS,
    MAX_HEADER_NAME_CHARACTERS,
    MAX_HEADER_VALUE_CHARACTERS,
    MAX_SCOPE_IDS,
    MAX_WAITS_IN_TIER,
    MAX_WEBHOOK_HEADERS,
)
from streams.core.webhooks.auth import SECRET_NAMES
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.field_rules import to_camel_case
from streams.core.webhooks.headers import is_connection_header
from streams.core.webhooks.url import url_errors
from streams.core.webhooks.webhook import (
    ALL_EVENTS,
    DeliveryMode,
    Registration,
    Webhook,
    to_entered_types,
    to_event_types,
)
from streams.core.webhooks.webhook_input import FIELD_RULES, OPTION_FIELDS, WebhookInput

_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_RESERVED_HEADERS = frozenset({"user-agent", "traceparent"})


# The input fields that a webhook, and a registration, has under the same name.
_WEBHOOK_FIELDS = [
    attribute.name
    for attribute in fields(WebhookInput)
    if attribute.name in {attribute.name for attribute in fields(Webhook)}
]
_REGISTRATION_FIELDS = [
    attribute.name
    for attribute in fields(WebhookInput)
    if attribute.name in {attribute.name for attribute in fields(Registration)}
]
_SCOPE_FIELDS = ("packages", "dispatches")
# Fields that only requests need.
_REQUEST_FIELDS = (
    *("url", "fallback_url", "headers", "fallback_headers", "auth", "timeout_seconds", "retries", "pause_after"),
    *("on_gone", "resume"),
)
_EMPTY = WebhookInput("")


def to_webhook_input(registration: Registration) -> WebhookInput:
    """The input that makes this registration, without its encrypted headers."""
    webhook = registration.webhook
    values = {name: getattr(webhook, name) for name in _WEBHOOK_FIELDS} | {
        name: getattr(registration, name) for name in _REGISTRATION_FIELDS
    }
    values |= {name: sorted(values[name]) for name in _SCOPE_FIELDS}
    values["filter"] = webhook.filter.to_json() if webhook.filter else None
    options = webhook.options.to_json()
    values |= {name: options.get(to_camel_case(name)) for name in OPTION_FIELDS}
    return WebhookInput(**values, delivery=webhook.delivery, events=to_entered_types(webhook.event_types))


def to_webhook_fields(webhook_input: WebhookInput) -> dict[str, Any]:
    """The fields of the webhook that this input makes, without its headers."""
    values = {name: getattr(webhook_input, name) for name in _WEBHOOK_FIELDS}
    return {
        **values,
        **{name: frozenset(values[name]) for name in _SCOPE_FIELDS},
        "event_types": to_event_types(webhook_input.events),
        "filter": None if webhook_input.filter is None else parse_filter(webhook_input.filter),
        "options": parse_options(webhook_input.options),
    }


def to_registration_fields(webhook_input: WebhookInput) -> dict[str, Any]:
    """The fields of the registration that this input makes."""
    return {name: getattr(webhook_input, name) for name in _REGISTRATION_FIELDS}


def input_errors(
    webhook_input: WebhookInput, allow_http: bool = False, schedule: Schedule | None = None
) -> list[FieldError]:
    """What is wrong with a registration, one error for each field. `schedule` is the deployment's."""
    errors = _delivery_errors(webhook_input, allow_http)
    if webhook_input.fallback_url is not None:
        errors += url_errors("fallbackUrl", webhook_input.fallback_url, allow_http=allow_http)
        if webhook_input.fallback_url == webhook_input.url:
            errors.append(FieldError("fallbackUrl", "must be another URL than url"))
    if not webhook_input.events:
        errors.append(FieldError("events", f"must name event types, or {ALL_EVENTS} for all"))
    event_types = ", ".join(EVENT_TYPES)
    errors += [
        FieldError("events", f"{name!r} is not an event type; the types are {event_types} and {ALL_EVENTS}")
        for name in webhook_input.events
        if name != ALL_EVENTS and name not in EVENT_TYPES
    ]
    errors += [
        FieldError(scope, f"{value!r} is not an id: {ID_DESCRIPTION}")
        for scope, values in (("packages", webhook_input.packages), ("dispatches", webhook_input.dispatches))
        for value in values
        if not is_id(value)
    ]
    errors += [
        FieldError(scope, f"at most {MAX_SCOPE_IDS} ids")
        for scope, values in (("packages", webhook_input.packages), ("dispatches", webhook_input.dispatches))
        if len(values) > MAX_SCOPE_IDS
    ]
    errors += _rule_errors(webhook_input)
    errors += _filter_errors(webhook_input)
    errors += _option_errors(webhook_input, schedule, allow_http)
    errors += header_errors("headers", webhook_input.headers)
    return errors + header_errors("fallbackHeaders", webhook_input.fallback_headers)


def _rule_errors(webhook_input: WebhookInput) -> list[FieldError]:
    """What is wrong with the fields that are not delivery options."""
    errors = []
    for name in (name for name in FIELD_RULES if name not in OPTION_FIELDS):
        try:
            FIELD_RULES[name].parse(getattr(webhook_input, name))
        except ValueError as error:
            errors.append(FieldError(to_camel_case(name), str(error)))
    return errors


def _delivery_errors(webhook_input: WebhookInput, allow_http: bool) -> list[FieldError]:
    """What is wrong with a webhook's URL, and with fields that its delivery mode does not use."""
    if webhook_input.delivery == DeliveryMode.PUSH:
        errors = (
            url_errors("url", webhook_input.url, allow_http=allow_http)
            if webhook_input.url
            else [FieldError("url", f"is required with delivery {DeliveryMode.PUSH}")]
        )
        if webhook_input.retention_days is not None:
            errors.append(FieldError("retentionDays", f"is for delivery {DeliveryMode.PULL} alone"))
        return errors
    if webhook_input.delivery != DeliveryMode.PULL:
        return [FieldError("delivery", "must be one of: " + ", ".join(DeliveryMode))]
    try:
        # Only values that differ from their default.
        chosen_options = set(parse_options(webhook_input.options).to_json())
    except Invalid:
        chosen_options = set()
    message = f"must be left out: a webhook with delivery {DeliveryMode.PULL} gets no requests"
    names = {name: to_camel_case(name) for name in _REQUEST_FIELDS}
    return [
        FieldError(api_name, message)
        for name, api_name in names.items()
        if (api_name in chosen_options if name in OPTION_FIELDS else getattr(webhook_input, name))
    ]


def with_delivery(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes, plus the effects of a new delivery mode: fields of the other mode take their defaults."""
    if changes.get("delivery") == DeliveryMode.PULL:
        unused = {name: getattr(_EMPTY, name) for name in (*_REQUEST_FIELDS, "auth_secret")}
    elif changes.get("delivery") == DeliveryMode.PUSH:
        unused = {"retention_days": None}
    else:
        unused = {}
    return {**unused, **changes}


def _filter_errors(webhook_input: WebhookInput) -> list[FieldError]:
    """What is wrong with a filter, for the types that the webhook takes."""
    if webhook_input.filter is None:
        return []
    events = set(webhook_input.events)
    types = [name for name in EVENT_TYPES if name in events or (ALL_EVENTS in events and name not in OPT_IN_TYPES)]
    try:
        return filter_conflicts(parse_filter(webhook_input.filter), types)
    except Invalid as error:
        return list(error.errors)


def _option_errors(webhook_input: WebhookInput, schedule: Schedule | None, allow_http: bool) -> list[FieldError]:
    """What is wrong with the options of deliveries; a wait must be one of the deployment's."""
    try:
        options = parse_options(webhook_input.options)
    except Invalid as error:
        return list(error.errors)
    errors = []
    if options.auth is not None and options.auth.token_url is not None:
        errors += url_errors("auth.tokenUrl", options.auth.token_url, allow_http=allow_http)
    secret = webhook_input.auth_secret
    if secret is not None and not (0 < len(secret) <= MAX_AUTH_CHARACTERS and secret.isprintable()):
        name = SECRET_NAMES[options.auth.type] if options.auth else "secret"
        message = f"must be printable text of 1 to {MAX_AUTH_CHARACTERS} characters"
        errors.append(FieldError(f"auth.{name}", message))
    return errors + _retry_errors(options.retries, schedule)


def _retry_errors(retries: Schedule | None, schedule: Schedule | None) -> list[FieldError]:
    if retries is None or schedule is None:
        return []
    tiers, longest_tier = ", ".join(schedule.names), schedule.tiers[-1].name
    message = f"is not a wait of this system: take {tiers}, or 2 to {MAX_WAITS_IN_TIER} times {longest_tier}"
    return [FieldError("retries", f"{tier.name!r} {message}") for tier in retries.tiers if not schedule.can_wait(tier)][
        :1
    ]


def header_errors(field: str, headers: Mapping[str, str]) -> list[FieldError]:
    """What is wrong with a customer's own headers (RFC 9110 §5); they cannot replace the system's headers."""
    errors = [FieldError(field, f"at most {MAX_WEBHOOK_HEADERS} headers")] if len(headers) > MAX_WEBHOOK_HEADERS else []
    for name, value in headers.items():
        lower_name = name.lower()
        if len(name) > MAX_HEADER_NAME_CHARACTERS:
            start = name[:MAX_HEADER_NAME_CHARACTERS]
            errors.append(
                FieldError(field, f"the name {start!r}… has more than {MAX_HEADER_NAME_CHARACTERS} characters")
            )
            continue
        if not name or not set(lower_name) <= _TOKEN_CHARACTERS:
            errors.append(FieldError(field, f"{name!r} is not a valid header name"))
        elif is_connection_header(name):
            errors.append(FieldError(field, f"{name} belongs to the connection and cannot be set"))
        elif (
            lower_name in _RESERVED_HEADERS
            or lower_name.startswith(("content-", "webhook-"))
            or "-signature" in lower_name
        ):
            errors.append(FieldError(field, f"{name} is a header that we set"))
        if not all(" " <= character <= "~" for character in value) or len(value) > MAX_HEADER_VALUE_CHARACTERS:
            message = f"must be printable ASCII, at most {MAX_HEADER_VALUE_CHARACTERS} characters"
            errors.append(FieldError(field, f"the value of {name!r} {message}"))
    return errors
