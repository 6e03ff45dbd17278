"""A webhook's own rules for its deliveries: what is sent, how fast, how often, and when it is paused."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from streams.core.deliveries.schedule import Schedule, Tier
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import FIELD_NAMES, metadata_problem
from streams.core.events.event_filter import METADATA_FIELD
from streams.core.limits import (
    DEFAULT_RETENTION_DAYS,
    MAX_FAILURES_TO_PAUSE,
    MAX_FIELDS_SENT,
    MAX_MINUTES_TO_PAUSE,
    MAX_RATE_PER_SECOND,
    MAX_RETENTION_DAYS,
    MAX_RETRY_TIERS,
    MAX_WEBHOOK_TIMEOUT_SECONDS,
    MIN_RATE_PER_SECOND,
)
from streams.core.queues.rate import Rate
from streams.core.text import shorten
from streams.core.webhooks.auth import Auth, UnknownOption, parse_auth

DEFAULT_FAILURES_TO_PAUSE = 5


class OnGone(StrEnum):
    """What follows when the endpoint responds with 410 Gone."""

    PAUSE = "pause"
    DELETE = "delete"


class Resume(StrEnum):
    """What ends an automatic pause: a person alone, or also a probe that succeeds."""

    MANUAL = "manual"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class PauseAfter:
    """When a failing webhook is paused: after this many failures in a row, over at least this many minutes."""

    failures: int = DEFAULT_FAILURES_TO_PAUSE
    minutes: int = 0

    @property
    def description(self) -> str:
        """The limit for people: `5 failures in a row`."""
        failures = "1 failure" if self.failures == 1 else f"{self.failures} failures in a row"
        return f"{failures} over {self.minutes} minutes or more" if self.minutes else failures

    def is_reached(self, failures: int, duration: timedelta) -> bool:
        return failures >= self.failures and duration >= timedelta(minutes=self.minutes)


DEFAULT_PAUSE_AFTER = PauseAfter()


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """The rules of one webhook. None means that the deployment's value applies; no `fields` means all of them."""

    timeout_seconds: int | None = None
    retries: Schedule | None = None
    pause_after: PauseAfter = DEFAULT_PAUSE_AFTER
    on_gone: OnGone = OnGone.PAUSE
    resume: Resume = Resume.MANUAL
    rate_per_second: float | None = None
    rate_burst: int | None = None
    auth: Auth | None = None
    fields: tuple[str, ...] | None = None
    retention_days: int | None = None

    @property
    def retention(self) -> timedelta:
        """How long a pull webhook's deliveries wait for a reader."""
        return timedelta(days=self.retention_days or DEFAULT_RETENTION_DAYS)

    @property
    def rate(self) -> Rate | None:
        """The rate of its requests; None if it is not limited."""
        if self.rate_per_second is None:
            return None
        return Rate(self.rate_per_second, self.rate_burst or max(1, int(self.rate_per_second)))

    @property
    def values(self) -> dict[str, Any]:
        """What differs from the defaults, by the names of the API."""
        values: dict[str, Any] = {
            "timeoutSeconds": self.timeout_seconds,
            "retries": None if self.retries is None else self.retries.names,
            "pauseAfter": None
            if self.pause_after == DEFAULT_PAUSE_AFTER
            else {"failures": self.pause_after.failures, "minutes": self.pause_after.minutes},
            "ratePerSecond": self.rate_per_second,
            "rateBurst": self.rate_burst,
            "auth": self.auth.values if self.auth else None,
            "fields": None if self.fields is None else list(self.fields),
            "retentionDays": self.retention_days,
            "onGone": None if self.on_gone is OnGone.PAUSE else str(self.on_gone),
            "resume": None if self.resume is Resume.MANUAL else str(self.resume),
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def text(self) -> str | None:
        """The values as JSON; None if all are defaults."""
        return json.dumps(values) if (values := self.values) else None


DEFAULT_OPTIONS = DeliveryOptions()


def parse_options(values: Mapping[str, Any]) -> DeliveryOptions:
    """Parse options by the names of the API; None is the default. Raises `Invalid`, which names each wrong field."""
    if unknown_names := sorted(values.keys() - _PARSERS.keys()):
        raise UnknownOption(FieldError(str(unknown_names[0])[:40], "is not an option of this release"))
    parsed_values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, value in values.items():
        if value is None:
            continue
        field, parse = _PARSERS[name]
        try:
            parsed_values[field] = parse(value)
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
        except UnknownOption:
            raise
        except Invalid as error:
            errors += (
                nested_error if nested_error.field.startswith(f"{name}.") else FieldError(name, nested_error.message)
                for nested_error in error.errors
            )
    if not errors and "rate_burst" in parsed_values and "rate_per_second" not in parsed_values:
        errors.append(FieldError("rateBurst", "needs ratePerSecond"))
    if errors:
        raise Invalid(*errors)
    return DeliveryOptions(**parsed_values)


def _parse_timeout(value: object) -> int:
    return _whole_number(value, 1, MAX_WEBHOOK_TIMEOUT_SECONDS)


def _parse_retries(value: object) -> Schedule:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of waits, such as ["30s", "2m", "1h"]')
    if len(value) > MAX_RETRY_TIERS:
        raise ValueError(f"must have at most {MAX_RETRY_TIERS} waits")
    waits = [(tier := Tier(name), tier.wait) for name in value]
    if any(later < earlier for (_, earlier), (_, later) in pairwise(waits)):
        raise ValueError('each wait must be as long as the one before, or longer, as in ["30s", "2m", "1h"]')
    return Schedule(tuple(tier for tier, _ in waits))


def _parse_pause_after(value: object) -> PauseAfter:
    if not isinstance(value, Mapping) or not value.keys() <= {"failures", "minutes"}:
        raise ValueError('must have the form {"failures": 5, "minutes": 0}')
    limits = {"failures": (1, MAX_FAILURES_TO_PAUSE), "minutes": (0, MAX_MINUTES_TO_PAUSE)}
    numbers, errors = {}, []
    for name, number in value.items():
        try:
            numbers[name] = _whole_number(number, *limits[name])
        except ValueError as error:
            errors.append(FieldError(f"pauseAfter.{name}", str(error)))
    if errors:
        raise Invalid(*errors)
    return PauseAfter(**numbers)


def _parse_on_gone(value: object) -> OnGone:
    if value not in tuple(OnGone):
        raise ValueError("must be one of: " + ", ".join(OnGone))
    return OnGone(str(value))


def _parse_resume(value: object) -> Resume:
    if value not in tuple(Resume):
        raise ValueError("must be one of: " + ", ".join(Resume))
    return Resume(str(value))


def _parse_rate(value: object) -> float:
    message = f"must be a number from {MIN_RATE_PER_SECOND} to {MAX_RATE_PER_SECOND}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(message)
    if not MIN_RATE_PER_SECOND <= value <= MAX_RATE_PER_SECOND:
        raise ValueError(message)
    return float(value)


def _parse_burst(value: object) -> int:
    return _whole_number(value, 1, MAX_RATE_PER_SECOND)


def _parse_fields(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(path, str) for path in value):
        raise ValueError('must be a list of fields of `data`, such as ["sessionId", "metadata.department"]')
    if len(value) > MAX_FIELDS_SENT:
        raise ValueError(f"must have at most {MAX_FIELDS_SENT} fields")
    for path in value:
        name, dot, pair = path.partition(".")
        is_pair = name == METADATA_FIELD and bool(dot)
        if name not in FIELD_NAMES or (dot and not is_pair) or (is_pair and metadata_problem({pair: ""})):
            # A newer release may know it.
            raise UnknownOption(FieldError("fields", f"{shorten(path, 80)!r} is not a field of any type's `data`"))
    return tuple(dict.fromkeys(value))


def _parse_retention(value: object) -> int:
    return _whole_number(value, 1, MAX_RETENTION_DAYS)


def _whole_number(value: object, smallest: int, largest: int) -> int:
    if type(value) is not int or not smallest <= value <= largest:
        raise ValueError(f"must be a whole number from {smallest} to {largest}")
    return value


# Each option by its name in the API: its field, and what parses its value.
_PARSERS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "timeoutSeconds": ("timeout_seconds", _parse_timeout),
    "retries": ("retries", _parse_retries),
    "pauseAfter": ("pause_after", _parse_pause_after),
    "onGone": ("on_gone", _parse_on_gone),
    "resume": ("resume", _parse_resume),
    "ratePerSecond": ("rate_per_second", _parse_rate),
    "rateBurst": ("rate_burst", _parse_burst),
    "auth": ("auth", parse_auth),
    "fields": ("fields", _parse_fields),
    "retentionDays": ("retention_days", _parse_retention),
}
