"""Parse events from lines of JSON, and collect the results of publishing them."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.core.errors import FieldError, Invalid, ScormWebhooksError
from streams.core.events.event import Event, parse_event
from streams.ids import new_id

# Only the first errors of a file are printed.
MAX_SHOWN_ERRORS = 20


@dataclass(frozen=True, slots=True)
class InputLine:
    """An event, and its line number, from 1. `fields` is the JSON to send to the API; empty for Kafka."""

    number: int
    event: Event
    fields: Mapping[str, Any]


@dataclass
class PublishedEvents:
    """The ids of acknowledged events, and how many webhooks want each one (None: not known).

    `error` is why the other events are not acknowledged. `has_counts` is False if no database answers.
    """

    total: int
    has_counts: bool = True
    ids: list[str] = field(default_factory=list)
    counts: list[int | None] = field(default_factory=list)
    error: ScormWebhooksError | None = None

    def add(self, event_id: str, count: int | None) -> None:
        self.ids.append(event_id)
        self.counts.append(count)


Encode = Callable[[Event], object]


def parse_lines(text: str, encode: Encode | None = None, default_account: str | None = None) -> list[InputLine]:
    """Parse all lines. Raises `Invalid`, which names the wrong lines, also those that `encode` refuses.

    With a `default_account`, lines may omit `accountId`.
    """
    lines: list[InputLine] = []
    errors: list[FieldError] = []
    wrong_count = 0
    for number, line in _numbered_lines(text):
        try:
            lines.append(_parse_line(number, line, encode, default_account))
        except Invalid as error:
            wrong_count += 1
            errors += error.errors
    if errors:
        message = f"{wrong_count} of {wrong_count + len(lines)} lines are wrong: nothing is published"
        raise Invalid(*errors[:MAX_SHOWN_ERRORS], FieldError("events", message))
    return lines


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    # `splitlines` also splits at U+2028 and others, which JSON may contain.
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _parse_line(number: int, line: str, encode: Encode | None, default_account: str | None) -> InputLine:
    """Parse one line. Raises `Invalid`, which names the line and the field."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise Invalid(FieldError("event", "must be a JSON object"))
        fields.setdefault("id", new_id("evt"))
        account = {} if default_account is None else {"accountId": default_account}
        event = parse_event({**account, **fields}, default_id="", now=datetime.now(UTC))
        if encode is not None:
            encode(event)
        return InputLine(number, event, fields if default_account else {})
    except Invalid as error:
        raise Invalid(*(FieldError(f"line {number}: {e.field}", e.message) for e in error.errors)) from None
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at character {error.pos}; write each event on one line"
        raise Invalid(FieldError(f"line {number}", message)) from None
    except ValueError as error:
        raise Invalid(FieldError(f"line {number}", f"is not JSON: {error}")) from None
    except RecursionError:
        raise Invalid(FieldError(f"line {number}", "is nested too deeply")) from None
