"""The fields of the form for a webhook's own rules of delivery, and the sentences of its page about them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from api.shell.forms import Form
from streams.core.errors import FieldError, Invalid
from streams.core.webhooks.auth import FIELD_NAMES, SECRET_NAMES, Auth, AuthType
from streams.core.webhooks.delivery_options import DEFAULT_PAUSE_AFTER, DeliveryOptions, OnGone, Resume
from streams.core.webhooks.field_rules import Kind, to_camel_case
from streams.core.webhooks.url import host_of
from streams.core.webhooks.webhook import DeliveryMode, Webhook
from streams.core.webhooks.webhook_input import FIELD_RULES, WebhookInput

_EMPTY = WebhookInput("")
# The form's fields of credentials without their secrets, each with its name in the API.
_AUTH_FIELDS = {field: name for field, name in FIELD_NAMES.items() if field != "type"}


def option_fields(entered_input: WebhookInput) -> dict[str, str]:
    """The values of the form's fields; an empty field takes the default."""
    pause_after, auth = entered_input.pause_after or {}, entered_input.auth or {}
    return {
        "auth_type": auth.get("type", ""),
        **{field: auth.get(name, "") for field, name in _AUTH_FIELDS.items()},
        "password": "",
        "client_secret": "",
        "secret_typed": "",
        **{name: _text(getattr(entered_input, name)) for name in FIELD_RULES},
        "retries": ", ".join(entered_input.retries or ()),
        "no_retries": "1" if entered_input.retries == [] else "",
        "pause_failures": _text(pause_after.get("failures")),
        "pause_minutes": _text(pause_after.get("minutes")),
        "on_gone": entered_input.on_gone or OnGone.PAUSE,
        "resume": entered_input.resume or Resume.MANUAL,
        "fields": "\n".join(entered_input.fields or ()),
    }


def _text(value: object) -> str:
    return "" if value is None else str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def parse_option_fields(form: Form) -> dict[str, Any]:
    """The input from the fields of the chosen delivery mode. Raises `Invalid`."""
    values = {
        **{name: plain_value(form, name) for name in ("rate_per_second", "rate_burst")},
        "fields": form.lines("fields") or None,
    }
    if form["delivery"] == DeliveryMode.PULL:
        return {**values, "retention_days": plain_value(form, "retention_days")}
    failures = form.number("pause_failures", "pauseAfter.failures", DEFAULT_PAUSE_AFTER.failures)
    minutes = form.number("pause_minutes", "pauseAfter.minutes", DEFAULT_PAUSE_AFTER.minutes)
    waits = form["retries"].replace(",", " ").split()
    if waits and form["no_retries"]:
        raise Invalid(FieldError("retries", "are written here, and “No retries” is checked: choose one of both"))
    return {
        **values,
        **{name: plain_value(form, name) for name in ("timeout_seconds", "on_gone", "resume")},
        "retries": waits or ([] if form["no_retries"] else None),
        "pause_after": {"failures": failures, "minutes": minutes},
        **_parse_auth_fields(form),
    }


def plain_value(form: Form, name: str) -> Any:
    """The value of a field that has a rule; an empty one takes the default. Raises `Invalid`."""
    text, kind = form[name], FIELD_RULES[name].kind
    if not text:
        return getattr(_EMPTY, name)
    if kind is Kind.WHOLE_NUMBER:
        return form.number(name, to_camel_case(name), 0)
    return _decimal(text, to_camel_case(name)) if kind is Kind.NUMBER else text


def _parse_auth_fields(form: Form) -> dict[str, Any]:
    """The credentials. A secret is never shown: left empty, it stays."""
    if not form["auth_type"]:
        return {"auth": None, "auth_secret": None}
    auth_type = form.one_of("auth_type", AuthType)
    names = (
        ("username",) if auth_type is AuthType.BASIC else tuple(field for field in _AUTH_FIELDS if field != "username")
    )
    texts = {_AUTH_FIELDS[field]: form[field] for field in names if form[field]}
    secret = form["password"] if auth_type is AuthType.BASIC else form["client_secret"]
    if form["secret_typed"] and not secret:
        # The page with the errors does not show it.
        raise Invalid(FieldError(f"auth.{SECRET_NAMES[auth_type]}", "must be typed again"))
    return {"auth": {"type": str(auth_type), **texts}, "auth_secret": secret or None}


def _decimal(text: str, label: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid(FieldError(label, "must be a number, such as 5 or 0.5")) from None


def option_facts(webhook: Webhook, attempt_seconds: float, waits: Sequence[str]) -> dict[str, str]:
    """The rules of a webhook by their names on its page: its own ones, or the system's."""
    options = webhook.options
    fields = {"Fields of data": "all" if options.fields is None else ", ".join(options.fields)}
    if webhook.delivery is DeliveryMode.PULL:
        return {**fields, "Rate": _rate_description(options, "events"), "Retention": _days(options.retention)}
    seconds = options.timeout_seconds or attempt_seconds
    retries = waits if options.retries is None else options.retries.names
    return {
        **fields,
        "Credentials": _auth_description(options.auth),
        "Timeout": "1 second" if seconds == 1 else f"{seconds:g} seconds",
        "Rate": _rate_description(options, "requests"),
        "Retries": f"after {', '.join(retries)}" if retries else "none",
        "Paused after": options.pause_after.description,
        "After 410 Gone": "deleted" if options.on_gone is OnGone.DELETE else "paused",
        "Resumed": "by a held event that succeeds" if options.resume is Resume.PROBE else "by a person",
    }


def _auth_description(auth: Auth | None) -> str:
    if auth is None:
        return "none"
    if auth.type is AuthType.BASIC:
        return f"HTTP Basic as {auth.username}"
    return f"OAuth 2.0: a token of {host_of(auth.token_url or '')} for {auth.client_id}"


def _rate_description(options: DeliveryOptions, unit: str) -> str:
    rate = options.rate
    if rate is None:
        return "not limited"
    burst = f", {rate.burst} at once after a quiet time" if rate.burst > 1 else ""
    return f"{rate.per_second:g} {unit} a second{burst}"


def _days(length: timedelta) -> str:
    return "1 day" if length.days == 1 else f"{length.days} days"
