"""What can be wrong with what we were given, told so that a person can mend it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong: `field` is its path (`data.scoreRaw`), `message` says what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ScormWebhooksError(Exception):
    """The root of every error of ours.

    ScormWebhooksError
    ├── Invalid        bad input: `.errors` names each field        (the caller's fault)
    ├── NotFound       no such object in this account               (the caller's fault)
    ├── Unauthorized   nobody is known by this key                  (the caller's fault)
    ├── Forbidden      the key does not permit this                 (the caller's fault)
    ├── Conflict       not while things stand as they do            (the caller's fault)
    ├── Stale          somebody changed the object meanwhile        (the caller's fault)
    ├── Misconfigured  a setting that must change before a start    (the operator's fault)
    ├── Unreadable     bytes that no schema of ours explains        (the producer's fault)
    │   └── ConflictingId  an event's id that stands for another body (the producer's fault)
    ├── Refused        a row that the database will not take        (kept aside, counted)
    ├── RecordsRefused records that Kafka never takes               (kept aside, counted)
    └── Unavailable    a broker or database that is away            (nobody's fault: wait)
        └── Partly     a mail that only some of those it is for took
    """


class Invalid(ScormWebhooksError):
    """Bad input, with one `FieldError` for each field that is wrong."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors


class NotFound(ScormWebhooksError):
    """There is no such object, or it belongs to another account."""


class Unauthorized(ScormWebhooksError):
    """Nobody is known by what was given to prove it."""


class Forbidden(ScormWebhooksError):
    """Whoever asks is known, and may not do this."""


class Conflict(ScormWebhooksError):
    """It cannot be done while things stand as they do; the text says what to do first."""


class Stale(ScormWebhooksError):
    """The object is no longer the one that the caller saw."""


class Misconfigured(ScormWebhooksError):
    """A process cannot start like this; the text is one line that says what to set."""


class InvalidRecord(ScormWebhooksError):
    """Bytes that cannot be decoded: they are kept, never dropped."""


class ConflictingId(InvalidRecord):
    """An event with an id under which another body was taken before; the first one stays."""

    def __init__(self, account_id: str, event_id: str) -> None:
        super().__init__(
            f"conflicting id: account {account_id} has published event {event_id} with another body before; "
            "the first one counts"
        )


class Refused(ScormWebhooksError):
    """The database answers, and refuses this very row."""


class RecordsRefused(ScormWebhooksError):
    """Kafka never takes some of the records; `reasons` says why, by their index. All others are acknowledged.

    `appended` says when each of the others was appended, by its index.
    """

    def __init__(self, reasons: Mapping[int, str], appended: Mapping[int, datetime]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = reasons
        self.appended = appended


class Unavailable(ScormWebhooksError):
    """A part we depend on does not answer at the moment."""


class PartiallySent(Unavailable):
    """Some took it; `unreached` may take it later."""

    def __init__(self, message: str, unreached: Iterable[str]) -> None:
        super().__init__(message)
        self.unreached = tuple(unreached)


class Abandoned(ScormWebhooksError):
    """This process leaves a record to the next owner of its partition; nothing of it is committed."""
