"""API keys, their scopes, and the caller behind a request."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from streams.core.errors import FieldError

KEY_PREFIX = "sk_"
KEY_PREFIX_CHARACTERS = 10


class Scope(StrEnum):
    """A permission of an API key within its account."""

    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    EVENTS_WRITE = "events:write"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_WRITE = "deliveries:write"
    LEARNERS_ERASE = "learners:erase"


# Creates accounts and gives access to them: only the platform's own operators have this scope.
OPERATOR = "operator"
# The operator of commands on the API's own machine. An operator's key cannot have this name.
LOCAL_NAME = "local"
LOCAL_ACTOR = f"operator:{LOCAL_NAME}"

# Names the account that an operator's key acts for.
ACCOUNT_HEADER = "Scorm-Webhooks-Account"
ALL_ACCOUNTS = "*"

ALL_SCOPES = frozenset(Scope)
# Manages an account's people and keys: only its owners have this scope.
MANAGE_ACCOUNT = "account:manage"


class Role(StrEnum):
    """What a person may do in an account."""

    OWNER = "owner"
    MEMBER = "member"
    VIEWER = "viewer"


PERMISSIONS: Mapping[Role, frozenset[str]] = {
    Role.OWNER: ALL_SCOPES | {MANAGE_ACCOUNT},
    Role.MEMBER: ALL_SCOPES - {Scope.LEARNERS_ERASE},
    Role.VIEWER: frozenset({Scope.WEBHOOKS_READ, Scope.DELIVERIES_READ}),
}

MIN_OPERATOR_KEY_CHARACTERS = 24
_OPERATOR_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is stored: its SHA-256 and its first characters, never the key itself.

    `person` is the actor whose terminal has the key; the keys of an account itself have none.
    """

    id: str
    account_id: str
    name: str
    prefix: str
    sha256: str
    created_at: datetime
    scopes: frozenset[Scope] = ALL_SCOPES
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    person: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key with its text, which is shown once."""

    key: ApiKey
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request; `actor` is its name in the audit log. A caller without an account is an operator.

    An operator may act for one account, or, with `is_for_all`, read and change things of any account by their ids.
    """

    actor: str
    permissions: frozenset[str]
    account_id: str | None = None
    is_for_all: bool = False

    @property
    def is_operator(self) -> bool:
        return OPERATOR in self.permissions

    @property
    def sender(self) -> str:
        """The owner of the request's idempotency keys: an operator has separate ones for each account."""
        return f"{self.actor} {self.account_id}" if self.is_operator and self.account_id else self.actor


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key of a platform operator, stored as a hash; `name` is the operator's name in the audit log."""

    name: str
    sha256: str


def parse_operator_key(text: str) -> OperatorKey:
    """Parse `name=key`, or a bare key, which is named by the first characters of its hash.

    Raises ValueError; its text does not contain the key.
    """
    name, separator, key = text.partition("=")
    if not separator or not key.strip("="):  # A key in Base64 may end in "=".
        name, key = "", text
    if len(key) < MIN_OPERATOR_KEY_CHARACTERS:
        raise ValueError(
            f"each key must have at least {MIN_OPERATOR_KEY_CHARACTERS} characters; `openssl rand -hex 24` makes one"
        )
    if name and not _OPERATOR_NAME.fullmatch(name):
        raise ValueError("a key's name must be 1 to 32 of a-z A-Z 0-9 . _ -, as in ada=<key>")
    if name == LOCAL_NAME:
        raise ValueError(f"the name {LOCAL_NAME} is that of commands on the API's own machine: choose another")
    sha256 = digest(key)
    return OperatorKey(name or sha256[:8], sha256)


def parse_operator_keys(texts: Iterable[str]) -> tuple[OperatorKey, ...]:
    """Parse all keys. Raises ValueError if two have the same name or the same key."""
    keys = tuple(map(parse_operator_key, texts))
    if len({key.name for key in keys}) < len(keys) or len({key.sha256 for key in keys}) < len(keys):
        raise ValueError("each key must have a name of its own, and no two names the same key")
    return keys


def digest(token: str) -> str:
    """The stored hash of a key or a link. They are random, so they need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_key(
    key_id: str,
    account_id: str,
    name: str,
    token: str,
    now: datetime,
    scopes: frozenset[Scope] = ALL_SCOPES,
    expires_at: datetime | None = None,
    person: str | None = None,
) -> NewKey:
    """A new key of an account, made from a random `token`."""
    api_key = KEY_PREFIX + token
    shown_key = api_key[:KEY_PREFIX_CHARACTERS]
    key = ApiKey(key_id, account_id, name, shown_key, digest(api_key), now, scopes, expires_at, person=person)
    return NewKey(key, api_key)


def scope_errors(names: Iterable[str]) -> list[FieldError]:
    """The errors in the requested scopes."""
    scopes = ", ".join(Scope)
    errors = [
        FieldError("scopes", f"{name!r} is not a scope; the scopes are {scopes}")
        for name in names
        if name not in ALL_SCOPES
    ]
    return errors if list(names) else [FieldError("scopes", f"must name at least one of {scopes}")]
