"""Mails to accounts: their reasons, and their schedule of attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

# The waits after the first attempts; then every hour, for about three days.
RETRY_WAITS = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10))
MAX_RETRY_WAIT = timedelta(hours=1)
MAX_MAIL_ATTEMPTS = 75
# Notices of one kind to an account within this time share one mail, which is sent this long after the first.
PAUSE_GROUPING_WINDOW = timedelta(minutes=1)
MAX_GROUPED_MAILS = 500


class MailKind(StrEnum):
    """The kind of a mail."""

    FAILING = "failing"
    PAUSED = "paused"
    STILL_PAUSED = "still_paused"
    RECOVERED = "recovered"
    DEAD_LETTERS = "dead_letters"
    SECRET_ENDING = "secret_ending"
    CERTIFICATE_ENDING = "certificate_ending"
    QUOTA = "quota"
    SIGN_IN = "sign_in"


# The mails about a webhook, or about the plan's launches. An account may mute kinds of them.
NOTICE_KINDS = tuple(kind for kind in MailKind if kind is not MailKind.SIGN_IN)
MUTED_MESSAGE = "The account does not want mails about this."


class MailStatus(StrEnum):
    """Whether a mail reached the mail server."""

    PENDING = "pending"
    SENT = "sent"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class OtherWebhooks:
    """The other webhooks in a mail: the name of each and what happened, and how many more are not listed."""

    listed: Sequence[Sequence[str]]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `key` identifies its reason: each reason causes one mail. `due_at` is None when nothing is left to do.

    `unreached` lists the recipients that still wait for this mail after others got it; empty when all or none got it.
    The notices of one kind to an account within a minute are sent as one mail: the first, with `others`. The other
    mails have its id in `sent_with`.

    `webhook_id` is empty for a sign-in and for launches. `details` of a sign-in: email, and as ciphertext the token of
    its link and its code; of launches: month, percent, launches, limit; of another notice: url, description, and,
    depending on its kind, reason, deleted, pausedAt, failures, since, lastAt, lastStatus, lastMessage, count, reminder,
    held, probeAt, until. Absent values are left out; times are strings.
    """

    id: str
    key: str
    account_id: str
    webhook_id: str
    kind: MailKind
    details: Mapping[str, Any]
    created_at: datetime
    tries: int = 0
    due_at: datetime | None = None
    sent_at: datetime | None = None
    problem: str | None = None
    unreached: tuple[str, ...] = ()
    others: OtherWebhooks | None = None
    sent_with: str | None = None

    @property
    def status(self) -> MailStatus:
        """`not_sent` is final: the mail is not tried again."""
        if self.sent_at is not None:
            return MailStatus.SENT
        return MailStatus.PENDING if self.due_at is not None else MailStatus.NOT_SENT


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """The text of a mail; `text` and `html` say the same."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


def next_due_at(tries: int, now: datetime) -> datetime | None:
    """When to try again after this many attempts; None to give up."""
    if tries >= MAX_MAIL_ATTEMPTS:
        return None
    return now + (RETRY_WAITS[tries - 1] if tries <= len(RETRY_WAITS) else MAX_RETRY_WAIT)
