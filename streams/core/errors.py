"""Exceptions, each with a message that says what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streams.core.limits import (
    MAX_ERROR_FIELD_CHARACTERS,
    MAX_ERROR_MESSAGE_CHARACTERS,
    MAX_ERRORS_SHOWN,
)
from streams.core.text import shorten

# The page that `api` serves; it stays at this address, because programs compare types.
PROBLEMS_PATH = "/docs/problems"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field. `field` is its path (`data.scoreRaw`), `message` says what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ScormWebhooksError(Exception):
    """The base class of this system's exceptions.

    ScormWebhooksError
    ├── Invalid          bad input: `.errors` names each field         (caller)
    ├── NotFound         no such object in this account                (caller)
    ├── Unauthorized     no account has this key                       (caller)
    ├── Forbidden        the key does not permit this                  (caller)
    ├── Conflict         conflicts with the object's current state     (caller)
    ├── Stale            the object was changed meanwhile              (caller)
    ├── Ended            the object existed, and has ended             (caller)
    ├── Misconfigured    a setting is wrong: the process exits         (operator)
    ├── InvalidRecord    a record that cannot be used                  (producer: stored, counted)
    │   └── ConflictingId  an event's id that has another body already (producer: stored, counted)
    ├── RowRefused       a row that the database does not accept       (stored elsewhere, counted)
    ├── RecordsRefused   records that Kafka refuses permanently           (stored elsewhere, counted)
    ├── RecordAbandoned  a record is left to the partition's next owner
    └── Unavailable      a broker or database is away: wait
        ├── PartiallySent  a mail that only some recipients have
        ├── TokenUnavailable  there is no token for Kafka at the moment
        └── ProviderFailed the OpenID Connect provider is away, or its response is wrong
    """


class Invalid(ScormWebhooksError):
    """Bad input, with one `FieldError` for each field that is wrong."""

    STATUS = 422
    NAME = "invalid"
    TITLE = "Some fields are wrong"

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors

    def to_problem(self) -> dict[str, Any]:
        """Problem details (RFC 9457), as our API responds with them, without its `requestId`.

        At most 20 errors; `omittedErrors` is the number of the rest. Long names and messages are cut.
        """
        problem: dict[str, Any] = {
            "type": problem_type(self.NAME),
            "title": self.TITLE,
            "status": self.STATUS,
            "errors": [
                {
                    "field": shorten(error.field, MAX_ERROR_FIELD_CHARACTERS),
                    "message": shorten(error.message, MAX_ERROR_MESSAGE_CHARACTERS),
                }
                for error in self.errors[:MAX_ERRORS_SHOWN]
            ],
        }
        if (omitted_count := len(self.errors) - MAX_ERRORS_SHOWN) > 0:
            problem["omittedErrors"] = omitted_count
        return problem


def problem_type(name: str) -> str:
    """The `type` of a problem: it identifies the kind, and leads to the kind's section of the documentation.

    It is relative to the API's address (RFC 9457 §3.1.1), so it is the same in every deployment.
    """
    return f"{PROBLEMS_PATH}#{name}"


class NotFound(ScormWebhooksError):
    """There is no such object, or it belongs to another account."""


class Unauthorized(ScormWebhooksError):
    """The credentials are unknown."""


class Forbidden(ScormWebhooksError):
    """The caller is known, but has no permission for this."""


class Conflict(ScormWebhooksError):
    """Conflicts with the object's current state; the message says what to do first."""


class Stale(ScormWebhooksError):
    """The object was changed since the caller read it."""


class Ended(ScormWebhooksError):
    """The object existed, and has ended for good."""


class Misconfigured(ScormWebhooksError):
    """A process cannot start; the message is one line that says what to set."""


class InvalidRecord(ScormWebhooksError):
    """A record that cannot be used. It is stored in `session-events.invalid`, never dropped."""


class NewerRecord(InvalidRecord):
    """A record that a newer release wrote. On the system's own topics its partition waits for that release.

    On `session-events` it is an invalid record like any other.
    """


class ConflictingId(InvalidRecord):
    """An event whose id was used before with another body; the first body stays."""

    def __init__(self, account_id: str, event_id: str) -> None:
        super().__init__(
            f"conflicting id: account {account_id} has published event {event_id} with another body before; "
            "the first one counts"
        )


class RowRefused(ScormWebhooksError):
    """The database responds, but does not accept this row."""


class RecordsRefused(ScormWebhooksError):
    """Kafka refuses some records permanently; `reasons` says why, by index. All others are acknowledged.

    `append_times` has the append times of the others, by index.
    """

    def __init__(self, reasons: Mapping[int, str], append_times: Mapping[int, datetime]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = reasons
        self.append_times = append_times


class Unavailable(ScormWebhooksError):
    """A broker, a database or another part does not answer at the moment."""


class NotAcknowledged(Unavailable):
    """Kafka may or may not have the records. The message is for people: it says what to send again."""


class PartiallySent(Unavailable):
    """Some recipients have the mail; `unreached` may get it later."""

    def __init__(self, message: str, unreached: Iterable[str]) -> None:
        super().__init__(message)
        self.unreached = tuple(unreached)


class TokenUnavailable(Unavailable):
    """The source of tokens for Kafka is away, slow, refuses this client, or its response is wrong."""


class ProviderFailed(Unavailable):
    """The OpenID Connect provider is away, slow, or its response is wrong. The message is for the log."""


class RecordAbandoned(ScormWebhooksError):
    """This process leaves a record to the next owner of its partition; it commits nothing of it."""


# The exceptions from handling one wrong stored row: it has an unknown word or shape, lacks a field, or has a value that
# a database or a schema refuses. Work on other rows continues. Any other exception ends the process.
ROW_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    Invalid,
    InvalidRecord,
    RowRefused,
)
