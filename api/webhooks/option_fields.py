"""The fields of the form for a webhook's own rules of delivery, and the sentences of its page about them."""

from collections.abc import Sequence
from typing import Any

from api.shell.forms import Form
from streams.core.errors import FieldError, Invalid
from streams.core.webhooks.delivery_options import DEFAULT_PAUSE_AFTER, DeliveryOptions, OnGone
from streams.features.webhooks.input import WebhookInput


def option_fields(entered_input: WebhookInput) -> dict[str, str]:
    """The values of the form's fields; an empty field takes the default."""
    pause_after = entered_input.pause_after or {}
    return {
        "timeout_seconds": _text(entered_input.timeout_seconds),
        "retries": ", ".join(entered_input.retries or ()),
        "no_retries": "1" if entered_input.retries == [] else "",
        "pause_failures": _text(pause_after.get("failures")),
        "pause_minutes": _text(pause_after.get("minutes")),
        "on_gone": entered_input.on_gone or OnGone.PAUSE,
        "rate_per_second": _text(entered_input.rate_per_second),
        "rate_burst": _text(entered_input.rate_burst),
    }


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:g}"


def parse_option_fields(form: Form) -> dict[str, Any]:
    """The input that the fields give. Raises `Invalid`."""
    failures = form.number("pause_failures", "pauseAfter", DEFAULT_PAUSE_AFTER.failures)
    minutes = form.number("pause_minutes", "pauseAfter", DEFAULT_PAUSE_AFTER.minutes)
    waits = form["retries"].replace(",", " ").split()
    return {
        "timeout_seconds": form.number("timeout_seconds", "timeoutSeconds", 0) if form["timeout_seconds"] else None,
        "retries": waits or ([] if form["no_retries"] else None),
        "pause_after": {"failures": failures, "minutes": minutes},
        "on_gone": form["on_gone"] or None,
        "rate_per_second": _decimal(form["rate_per_second"]),
        "rate_burst": form.number("rate_burst", "rateBurst", 0) if form["rate_burst"] else None,
    }


def _decimal(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise Invalid(FieldError("ratePerSecond", "must be a number, such as 5 or 0.5")) from None


def option_facts(options: DeliveryOptions, attempt_seconds: float, waits: Sequence[str]) -> dict[str, str]:
    """The rules of a webhook by their names on its page: its own ones, or the system's."""
    seconds = options.timeout_seconds or attempt_seconds
    retries = waits if options.retries is None else options.retries.names
    return {
        "Timeout": "1 second" if seconds == 1 else f"{seconds:g} seconds",
        "Rate": _rate_words(options),
        "Retries": f"after {', '.join(retries)}" if retries else "none",
        "Paused after": options.pause_after.words,
        "After 410 Gone": "deleted" if options.on_gone is OnGone.DELETE else "paused",
    }


def _rate_words(options: DeliveryOptions) -> str:
    rate = options.rate
    if rate is None:
        return "not limited"
    burst = f", {rate.burst} at once after a quiet time" if rate.burst > 1 else ""
    return f"{rate.per_second:g} requests a second{burst}"
