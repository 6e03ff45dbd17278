"""Work that failed because of its row: which work, why, and when it is tried again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from streams.core.errors import ROW_ERRORS
from streams.core.text import escape_controls, shorten

Value = TypeVar("Value")

FIRST_RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 300.0
# Work that failed again within this time still fails: it is tried at least every `MAX_RETRY_SECONDS`.
FAILING_PERIOD = timedelta(minutes=15)
MAX_ERROR_CHARACTERS = 300


class WorkKind(StrEnum):
    """What a stage does with one row, or with one portion of rows."""

    JOB = "job"
    ERASURE = "erasure"
    RETENTION = "retention"
    OVERDUE_RETRIES = "overdue_retries"
    BACKLOG = "backlog"
    WEBHOOK = "webhook"
    HELD_DELIVERY = "held_delivery"
    OUTGOING_EVENT = "outgoing_event"
    SESSION = "session"
    MAIL = "mail"
    REMINDER = "reminder"
    UNKNOWN_ACCOUNTS = "unknown_accounts"


@dataclass(frozen=True, slots=True)
class FailedWork:
    """A unit of work that failed, `failures` times in a row. `work_id` names its row or its portion."""

    kind: WorkKind
    work_id: str
    account_id: str
    error: str
    failures: int
    first_failed_at: datetime
    last_failed_at: datetime


class FailedRow(NamedTuple):
    """A row that could not be converted: a newer release wrote it, or a person changed it."""

    id: str
    account_id: str
    error: str


# A reader puts the rows that it cannot convert here. Without a list the error is raised.
FailedRows = list[FailedRow] | None


def read_rows(
    rows: Iterable[Any],
    convert: Callable[[Any], Value],
    failed_rows: FailedRows,
    id_of: Callable[[Any], str] = lambda row: str(row.id),
) -> list[Value]:
    """Convert each row. A row that cannot be converted does not stop the others."""
    values = []
    for row in rows:
        try:
            values.append(convert(row))
        except ROW_ERRORS as error:
            put_aside(failed_rows, id_of(row), str(getattr(row, "account_id", "")), error)
    return values


def put_aside(failed_rows: FailedRows, row_id: str, account_id: str, error: Exception) -> None:
    """Note that handling a row raised one of `ROW_ERRORS`. Without a list of failed rows the error is raised."""
    if failed_rows is None:
        raise error
    failed_rows.append(FailedRow(row_id, account_id, error_text(error)))


def error_text(error: Exception) -> str:
    """The error as one line. Further lines may contain data of the row."""
    first_line = str(error).partition("\n")[0]
    return shorten(escape_controls(f"{type(error).__name__}: {first_line}"), MAX_ERROR_CHARACTERS)


def retry_seconds(failures: int) -> float:
    """How long to wait after this many failures in a row."""
    return float(min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10)))
