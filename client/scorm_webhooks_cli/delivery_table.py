"""The lists of deliveries and dead letters: with the main columns, cut to the terminal, or with every column."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from scorm_webhooks_cli.output import show
from scorm_webhooks_cli.tables import Columns, print_lines, terminal_width
from streams.core.deliveries.delivery import State
from streams.core.ids import SHORT_ID_CHARACTERS
from streams.core.times import parse_time

Row = Mapping[str, Any]
_DURATION_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def show_deliveries(rows: Sequence[Row], as_json: bool, wide: bool) -> None:
    """Print a list of deliveries."""
    if as_json:
        show(rows, as_json)
        return
    columns = _WIDE_COLUMNS if wide else _short_columns(datetime.now(UTC))
    print_lines(rows, columns, None if wide else terminal_width())


def _short_columns(now: datetime) -> Columns:
    return {
        "id": lambda row: row["id"][:SHORT_ID_CHARACTERS],
        "state": _state_text,
        "when": lambda row: f"{_duration_text(_seconds_since(row, 'firstSeenAt', now))} ago",
        "webhook": "webhookId",
        "event": "eventId",
        "attempts": "attemptCount",
        "next": lambda row: _next_attempt_text(row, now),
        "message": "message",
    }


def _state_text(row: Row) -> str:
    """The state with its tier or reason: `waiting 30s`, `held paused`, `dead exhausted`."""
    column = {State.WAITING: "tier", State.HELD: "reason", State.DEAD: "reason"}.get(row["state"], "")
    return f"{row['state']} {row.get(column, '')}".rstrip()


_WIDE_COLUMNS: Columns = {
    "state": _state_text,
    "firstSeenAt": "firstSeenAt",
    "changedAt": "changedAt",
    "account": "accountId",
    "webhook": "webhookId",
    "event": "eventId",
    "type": "eventType",
    "trigger": "trigger",
    "generation": "generation",
    "target": "target",
    "attempts": "attemptCount",
    "dueAt": "dueAt",
    "id": "id",
    "message": "message",
}


def _next_attempt_text(row: Row, now: datetime) -> str:
    """When the next attempt is due."""
    if "dueAt" not in row:
        return ""
    seconds_late = -_seconds_since(row, "dueAt", now)
    return f"in {_duration_text(seconds_late)}" if seconds_late > 0 else "due"


def _seconds_since(row: Row, field_name: str, now: datetime) -> float:
    """How long ago a time was."""
    return (now - (parse_time(row[field_name]) or now)).total_seconds()


def _duration_text(seconds: float) -> str:
    """A duration in its largest unit: `5m`."""
    whole_seconds = max(0, round(seconds))
    size, unit = next((item for item in _DURATION_UNITS if whole_seconds >= item[0]), _DURATION_UNITS[-1])
    return f"{whole_seconds // size}{unit}"
