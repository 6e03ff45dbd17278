"""Models of accounts, their mails and their audit log."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from api.shared_models import UNCHANGED, Changes, Email, Input, Model, Text, Time, at_most
from streams.core.accounts.mail import NOTICE_KINDS, MailKind, MailStatus
from streams.core.limits import MAX_EMAILS, MAX_NAME_CHARACTERS
from streams.features.mails.service import MailDetails

Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, examples=["Acme Training"])]
Emails = Annotated[
    list[Email],
    Field(max_length=MAX_EMAILS, examples=[["ops@example.com"]], description="Who gets its mails."),
    at_most(MAX_EMAILS, "addresses"),
]
PlanLimit = Annotated[int, Field(ge=1, lt=2**63, description="Launches a calendar month.", examples=[1000])]


NoticeKind = StrEnum("NoticeKind", [(kind.name, kind.value) for kind in NOTICE_KINDS])  # type: ignore[misc]
MutedMails = Annotated[
    list[Annotated[NoticeKind, Field(strict=False)]],
    Field(max_length=len(NOTICE_KINDS), description="The kinds of notices that the account gets no mail about."),
    at_most(len(NOTICE_KINDS), "kinds"),
]


class NewAccount(Input):
    """An account to create."""

    name: Name
    emails: Emails = Field(default_factory=list)
    plan_limit: PlanLimit | None = None


class AccountChanges(Changes):
    """Changes of an account; omitted fields do not change. `planLimit: null` removes the limit."""

    name: Name = UNCHANGED
    emails: Emails = UNCHANGED
    plan_limit: PlanLimit | None = UNCHANGED
    weekly_digest: bool = UNCHANGED
    muted_mails: MutedMails = UNCHANGED


class AccountDetails(Model):
    """An account. With `weeklyDigest`, a weekly mail reminds of dead letters."""

    id: str
    name: str
    emails: list[str]
    plan_limit: int | None = None
    weekly_digest: bool
    muted_mails: list[str]
    created_at: Time


class OwnAccount(Model):
    """The account of a key."""

    id: str
    name: str
    plan_limit: int | None = None


class UnknownAccountDetails(Model):
    """An account that events name, but that does not exist. Its events were not delivered."""

    account: str
    events: Annotated[int, Field(description="Events that named it.")]
    first_at: Time
    last_at: Time


class AccountWithKey(AccountDetails):
    """An account with its first API key, which is shown only once."""

    api_key: Annotated[str, Field(examples=["sk_3JtZlpXKk0xq…"])]


class AuditLogEntry(Model):
    """An entry of the audit log: who did what to which object."""

    id: str
    at: Time
    actor: str
    action: str
    account_id: str | None = None
    object_id: str
    details: dict[str, Any]


class Notification(Model):
    """An e-mail to the account. `dueAt` is present while its `status` is `pending`."""

    id: str
    kind: MailKind
    webhook_id: Annotated[str | None, Field(description="Absent for a notice about launches.")] = None
    subject: str
    text: str
    created_at: Time
    status: Annotated[MailStatus, Field(description="`not_sent` is final: `reason` says why, and nobody tries again.")]
    reason: Annotated[str | None, Field(description="Why it is not sent, or not to every address.")] = None
    sent_with: Annotated[
        str | None,
        Field(description="The mail that lists this notice with others of the same minute: it was sent, not this."),
    ] = None
    tries: int
    due_at: Time | None = None
    sent_at: Time | None = None


def notification_of(details: MailDetails) -> Notification:
    """A mail."""
    mail = details.mail
    return Notification.of(mail, details.letter, reason=mail.problem, webhook_id=mail.webhook_id or None)
