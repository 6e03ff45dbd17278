"""Who may do what: API keys, what they permit, and the caller behind a request."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from streams.core.errors import FieldError

KEY_PREFIX = "sk_"
SHOWN_CHARACTERS = 10


class Scope(StrEnum):
    """One thing that an API key may be allowed to do in its account."""

    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    EVENTS_WRITE = "events:write"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_WRITE = "deliveries:write"


# What only the platform's own operators may do: open accounts and give access to them.
OPERATOR = "operator"

EVERYTHING = frozenset(Scope)
OPERATOR_KEY_CHARACTERS = 24
_OPERATOR_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is stored: never the key itself, its SHA-256 and the start that tells it from others."""

    id: str
    account_id: str
    name: str
    prefix: str
    sha256: str
    created_at: datetime
    scopes: frozenset[Scope] = EVERYTHING
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def opens(self, now: datetime) -> bool:
        """Whether it still lets anybody in."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its text, which is shown once."""

    key: ApiKey
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: `actor` names them in the audit log; without an account it is an operator."""

    actor: str
    permissions: frozenset[str]
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key of the platform's operators, known by its hash; `name` tells operators apart in the audit log."""

    name: str
    sha256: str


def parse_operator_key(text: str) -> OperatorKey:
    """An operator's key from `name=key`, or from a bare key, which is named by the start of its hash.

    Raises ValueError, whose text does not repeat the key.
    """
    name, sign, key = text.partition("=")
    if not sign or not key.strip("="):  # a key in Base64 may end in "="
        name, key = "", text
    if len(key) < OPERATOR_KEY_CHARACTERS:
        raise ValueError(
            f"each key must have at least {OPERATOR_KEY_CHARACTERS} characters; `openssl rand -hex 24` makes one"
        )
    if name and not _OPERATOR_NAME.fullmatch(name):
        raise ValueError("a key's name must be 1 to 32 of a-z A-Z 0-9 . _ -, as in ada=<key>")
    sha256 = digest(key)
    return OperatorKey(name or sha256[:8], sha256)


def parse_operator_keys(texts: Iterable[str]) -> tuple[OperatorKey, ...]:
    """All of them. Raises ValueError where two have one name or one key."""
    keys = tuple(map(parse_operator_key, texts))
    if len({key.name for key in keys}) < len(keys) or len({key.sha256 for key in keys}) < len(keys):
        raise ValueError("each key must have a name of its own, and no two names the same key")
    return keys


def digest(token: str) -> str:
    """What is stored of a key or a link: unguessable as they are, they need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_key(
    key_id: str,
    account_id: str,
    name: str,
    token: str,
    now: datetime,
    scopes: frozenset[Scope] = EVERYTHING,
    expires_at: datetime | None = None,
) -> NewKey:
    """A key of an account from an unguessable `token`."""
    api_key = KEY_PREFIX + token
    shown = api_key[:SHOWN_CHARACTERS]
    return NewKey(ApiKey(key_id, account_id, name, shown, digest(api_key), now, scopes, expires_at), api_key)


def scope_errors(names: Iterable[str]) -> list[FieldError]:
    """What is wrong with the scopes asked for."""
    known = ", ".join(Scope)
    errors = [
        FieldError("scopes", f"{name!r} is no scope; there are {known}") for name in names if name not in EVERYTHING
    ]
    return errors if list(names) else [FieldError("scopes", f"must name at least one of {known}")]
