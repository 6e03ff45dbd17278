"""What SQL stores of accounts, of who may use them, and of what they did."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from streams.core.audit import AuditEntry, AuditFilter
from streams.core.oidc import AuthorizationRequest
from streams.core.page import Cursor, Page


class IdentityProvider(Protocol):
    """An OpenID Connect provider. Raises `ProviderFailed` while it is away, and when its response is wrong."""

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """Where the browser goes to sign in."""

    async def claims(self, code: str, request: AuthorizationRequest, claim_names: Set[str]) -> Mapping[str, object]:
        """The claims of the person who signed in, validated; those of `claim_names` that the provider has.

        Raises `SignInRefused` when the code or the token is not valid.
        """


class AuditLog(Protocol):
    """Who did what, newest first."""

    async def add(self, audit_entry: AuditEntry) -> None:
        """Write an entry for something that changed no row."""

    async def list(self, audit_filter: AuditFilter, cursor: Cursor | None, limit: int) -> Page[AuditEntry]:
        """A page ends early when its rows have more than `MAX_LIST_BYTES`."""


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request with the same idempotency key; without a status it is still in progress."""

    fingerprint: str
    begun_at: datetime
    status: int | None = None
    encrypted_response: str | None = None


class IdempotencyStore(Protocol):
    """Responses to requests with an idempotency key."""

    async def begin(self, caller: str, key: str, fingerprint: str, now: datetime) -> EarlierRequest | None:
        """Claim the key for a request. None when it is the first one with this key."""

    async def finish(self, caller: str, key: str, begun_at: datetime, status: int, encrypted_response: str) -> None:
        """Store the response of the request that began then."""

    async def forget(self, caller: str, key: str, begun_at: datetime) -> None:
        """Give the key back: the request that began then did nothing."""
