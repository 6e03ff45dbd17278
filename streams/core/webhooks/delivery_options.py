"""A webhook's own rules for its deliveries: what is sent, how fast, how often, and when it is paused."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
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
from streams.core.webhooks.field_rules import FieldRule, Kind, rule, rules_of, to_camel_case

DEFAULT_FAILURES_TO_PAUSE = 5


class OnGone(StrEnum):
    """What follows when the endpoint responds with 410 Gone."""

    PAUSE = "pause"
    DELETE = "delete"


class Resume(StrEnum):
    """How an automatic pause ends: only by a person, or also by a successful probe."""

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

    timeout_seconds: int | None = field(
        default=None,
        metadata=rule(
            kind=Kind.WHOLE_NUMBER,
            smallest=1,
            largest=MAX_WEBHOOK_TIMEOUT_SECONDS,
            description="Seconds that the endpoint has to respond. Absent: the system's, usually 10.",
            label="Timeout in seconds",
            hint="The time that the endpoint has to respond, from 1 to 30.",
        ),
    )
    retries: Schedule | None = None
    pause_after: PauseAfter = DEFAULT_PAUSE_AFTER
    on_gone: OnGone = field(
        default=OnGone.PAUSE,
        metadata=rule(
            kind=Kind.CHOICE,
            choices=OnGone,
            description="What follows a response with 410 Gone: the webhook is paused, or deleted.",
        ),
    )
    resume: Resume = field(
        default=Resume.MANUAL,
        metadata=rule(
            kind=Kind.CHOICE,
            choices=Resume,
            description="What ends an automatic pause: `manual`, you alone; `probe`, also one held event that the "
            "endpoint takes. One is tried 1, 6 and 24 hours after the pause, and then each day. The others follow at "
            "the endpoint's pace.",
        ),
    )
    rate_per_second: float | None = field(
        default=None,
        metadata=rule(
            kind=Kind.NUMBER,
            smallest=MIN_RATE_PER_SECOND,
            largest=MAX_RATE_PER_SECOND,
            description="Requests a second, at most and evenly, retries included. Deliveries that would wait for more "
            "than five seconds are held, and sent at this rate. Absent: no limit.",
            label="Events a second, at most",
            hint="From 0.1 to 1000, retries included. Others wait, and follow at this rate. Empty: no limit.",
        ),
    )
    rate_burst: int | None = field(
        default=None,
        metadata=rule(
            kind=Kind.WHOLE_NUMBER,
            smallest=1,
            largest=MAX_RATE_PER_SECOND,
            description="Requests that may be sent at once after a quiet time. Absent: the rate, at least 1.",
            label="Events at once after a quiet time",
            hint="Empty: the events of one second.",
        ),
    )
    auth: Auth | None = None
    fields: tuple[str, ...] | None = None
    retention_days: int | None = field(
        default=None,
        metadata=rule(
            kind=Kind.WHOLE_NUMBER,
            smallest=1,
            largest=MAX_RETENTION_DAYS,
            description="Of a pull webhook: the days that a delivery waits for a reader before it is a dead letter. "
            f"Absent: {DEFAULT_RETENTION_DAYS}.",
            label="Retention in days",
            hint="What no reader acknowledges within this time becomes a dead letter. From 1 to 30. Empty: 7.",
        ),
    )

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

    def to_json(self) -> dict[str, Any]:
        """The values that differ from the defaults, by the names of the API."""
        values = {name: getattr(self, name) for name in _DEFAULTS}
        return {to_camel_case(name): _to_json(value) for name, value in values.items() if value != _DEFAULTS[name]}

    @property
    def text(self) -> str | None:
        """The values as JSON; None if all are defaults."""
        return json.dumps(values) if (values := self.to_json()) else None


DEFAULT_OPTIONS = DeliveryOptions()
_DEFAULTS = {attribute.name: getattr(DEFAULT_OPTIONS, attribute.name) for attribute in fields(DeliveryOptions)}


def _to_json(value: object) -> object:
    """An option in the form of the API."""
    match value:
        case Schedule():
            return value.names
        case Auth():
            return value.to_json()
        case PauseAfter():
            return asdict(value)
        case StrEnum():
            return str(value)
    return list(value) if isinstance(value, tuple) else value


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
    rules = {
        "failures": FieldRule(Kind.WHOLE_NUMBER, 1, MAX_FAILURES_TO_PAUSE),
        "minutes": FieldRule(Kind.WHOLE_NUMBER, 0, MAX_MINUTES_TO_PAUSE),
    }
    numbers, errors = {}, []
    for name, number in value.items():
        try:
            numbers[name] = rules[name].parse(number)
        except ValueError as error:
            errors.append(FieldError(f"pauseAfter.{name}", str(error)))
    if errors:
        raise Invalid(*errors)
    return PauseAfter(**numbers)


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


OPTION_RULES = rules_of(DeliveryOptions)
# Each option by its name in the API: its field, and the parser of its value.
_PARSERS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    to_camel_case(name): (name, option_rule.parse) for name, option_rule in OPTION_RULES.items()
} | {
    "retries": ("retries", _parse_retries),
    "pauseAfter": ("pause_after", _parse_pause_after),
    "auth": ("auth", parse_auth),
    "fields": ("fields", _parse_fields),
}
