"""Models of accounts, access, mails and the audit log."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from api.models.common import UNCHANGED, Changes, Input, Model, Moment, Text, Time, at_most
from api.models.webhooks import Url
from streams.core.access import ApiKey, Role, Scope
from streams.core.access import NewKey as MadeApiKey
from streams.core.account import Account, User
from streams.core.audit import AuditEntry
from streams.core.limits import EMAIL_CHARACTERS, EMAILS, NAME_CHARACTERS
from streams.core.mail import MailKind, MailStatus
from streams.core.session import LONGEST_LINK, Session
from streams.services.accounts import OpenedAccount
from streams.services.webhook_stats import MailDetails

Name = Annotated[Text, Field(min_length=1, max_length=NAME_CHARACTERS, examples=["Acme Training"])]
Email = Annotated[Text, Field(max_length=EMAIL_CHARACTERS)]
Emails = Annotated[
    list[Email],
    Field(max_length=EMAILS, examples=[["ops@example.com"]], description="Who gets its mails."),
    at_most(EMAILS, "addresses"),
]
Scopes = Annotated[
    list[Annotated[Scope, Field(strict=False)]],
    Field(min_length=1, max_length=len(Scope)),
    at_most(len(Scope), "scopes"),
]
ROLES = (
    "`owner`: everything, people and keys included; `member`: webhooks, deliveries and events; `viewer`: reads, "
    "without secrets and headers."
)
MOST_LINK_MINUTES = LONGEST_LINK // timedelta(minutes=1)
PlanLimit = Annotated[int, Field(ge=1, lt=2**63, description="Launches a calendar month.", examples=[1000])]


class NewAccount(Input):
    """An account to create."""

    name: Name
    emails: Emails = Field(default_factory=list)
    plan_limit: PlanLimit | None = None


class AccountChanges(Changes):
    """Changes of an account; a field that is left out does not change. `planLimit: null` removes the limit."""

    name: Name = UNCHANGED
    emails: Emails = UNCHANGED
    plan_limit: PlanLimit | None = UNCHANGED
    weekly_digest: bool = UNCHANGED


class AccountDetails(Model):
    """An account. With `weeklyDigest` a mail each week reminds of dead letters."""

    id: str
    name: str
    emails: list[str]
    plan_limit: int | None = None
    weekly_digest: bool
    created_at: Time


class AccountWithKey(AccountDetails):
    """An account with its first API key, which is shown only once."""

    api_key: Annotated[str, Field(examples=["sk_3JtZlpXKk0xq…"])]


class NewKey(Input):
    """An API key to create."""

    name: Annotated[Text, Field(min_length=1, max_length=NAME_CHARACTERS, examples=["The nightly export"])]
    scopes: Scopes
    expires_at: Moment | None = None


class Key(Model):
    """An API key; `prefix` are its first characters."""

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: Time
    last_used_at: Time | None = None
    expires_at: Time | None = None
    revoked_at: Time | None = None


class KeyWithText(Key):
    """An API key with its text, which is shown only once."""

    api_key: str


class NewUser(Input):
    """A user to add, who may sign in to the account's dashboard."""

    email: Annotated[Email, Field(min_length=3, examples=["ada@example.com"])]
    role: Annotated[Role, Field(strict=False, description=ROLES)] = Role.OWNER


class UserChanges(Changes):
    """Changes of a user."""

    role: Annotated[Role, Field(strict=False, description=ROLES)] = UNCHANGED


class NewPortalLink(Input):
    """A link that signs one browser in to the account's dashboard, without a mail."""

    role: Annotated[Role, Field(strict=False, description=ROLES)] = Role.MEMBER
    minutes: Annotated[int, Field(ge=1, le=MOST_LINK_MINUTES, description="How long the link is valid.")] = 15
    return_url: Annotated[Url | None, Field(description="Where the dashboard's link back to the platform leads.")] = (
        None
    )


class PortalLink(Model):
    """A link for one browser, which works once."""

    url: Annotated[str, Field(examples=["https://hooks.example.com/sign-in/mV3x…"])]
    expires_at: Time


class SessionDetails(Model):
    """A browser that is signed in."""

    id: str
    actor: str
    role: Role
    created_at: Time
    used_at: Annotated[Time, Field(description="Its last request, to the minute.")]
    expires_at: Time
    address: str
    user_agent: str


class UserDetails(Model):
    """A user, who may sign in to the account's dashboard."""

    id: str
    email: str
    role: Role
    created_at: Time


class SignInLink(Model):
    """A link that signs a user in once, within 15 minutes."""

    url: Annotated[str, Field(examples=["https://hooks.example.com/sign-in/mV3x…"])]
    expires_at: Time


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
    """A mail to the account. `dueAt` is present while its `status` is `pending`."""

    id: str
    kind: MailKind
    webhook_id: str
    subject: str
    text: str
    created_at: Time
    status: Annotated[MailStatus, Field(description="`not_sent` is final: `reason` says why, and nobody tries again.")]
    reason: Annotated[str | None, Field(description="Why it is not sent, or not to every address.")] = None
    tries: int
    due_at: Time | None = None
    sent_at: Time | None = None


def account_of(account: Account) -> AccountDetails:
    """An account."""
    return AccountDetails(**_account_fields(account))


def opened_account(opened: OpenedAccount) -> AccountWithKey:
    """A new account with its first key."""
    return AccountWithKey(**_account_fields(opened.account), api_key=opened.api_key)


def key_of(key: ApiKey) -> Key:
    """An API key."""
    return Key(**_key_fields(key))


def made_key(made: MadeApiKey) -> KeyWithText:
    """A new API key with its text."""
    return KeyWithText(**_key_fields(made.key), api_key=made.api_key)


def _account_fields(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "emails": list(account.emails),
        "plan_limit": account.plan_limit,
        "weekly_digest": account.weekly_digest,
        "created_at": account.created_at,
    }


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def user_of(user: User) -> UserDetails:
    """A user."""
    return UserDetails(id=user.id, email=user.email, role=user.role, created_at=user.created_at)


def session_of(session: Session) -> SessionDetails:
    """A session."""
    assert session.role is not None
    return SessionDetails(
        id=session.id,
        actor=session.actor,
        role=session.role,
        created_at=session.created_at,
        used_at=session.used_at,
        expires_at=session.expires_at,
        address=session.address,
        user_agent=session.user_agent,
    )


def audit_entry_of(audit_entry: AuditEntry) -> AuditLogEntry:
    """An audit entry."""
    return AuditLogEntry(
        id=audit_entry.id,
        at=audit_entry.at,
        actor=audit_entry.actor,
        action=audit_entry.action,
        account_id=audit_entry.account_id,
        object_id=audit_entry.object_id,
        details=dict(audit_entry.details),
    )


def notification_of(seen: MailDetails) -> Notification:
    """A mail."""
    mail = seen.mail
    return Notification(
        id=mail.id,
        kind=mail.kind,
        webhook_id=mail.webhook_id,
        subject=seen.letter.subject,
        text=seen.letter.text,
        created_at=mail.created_at,
        status=mail.status,
        reason=mail.problem,
        tries=mail.tries,
        due_at=mail.due_at,
        sent_at=mail.sent_at,
    )
