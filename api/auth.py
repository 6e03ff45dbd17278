"""Authentication, permissions and rate limits."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.admission import network_work, owner_of
from api.problems import TooManyRequests
from api.services import services_of
from streams.core.accounts.access import ACCOUNT_HEADER, OPERATOR, Caller, Scope
from streams.core.errors import FieldError, Forbidden, Invalid, Unauthorized
from streams.core.queues.rate import PERIOD_SECONDS
from streams.core.queues.request_class import RequestClass

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="apiKey",
    description=(
        "An API key of the account (`sk_…`), or an operator's key for `/v1/accounts`. An operator's key acts for an "
        f"account that the header `{ACCOUNT_HEADER}` names; with `*` it reads and changes things of any account by "
        "their ids."
    ),
)


async def authenticate(request: Request, request_class: RequestClass = RequestClass.PEOPLE) -> Caller:
    """The caller of a request, looked up once. Raises `Unauthorized` and `TooManyRequests`.

    Until the key's owner is known, the client's network takes turns at the database, in this class of requests.
    """
    stored_caller: Caller | None = getattr(request.state, "caller", None)
    if stored_caller is not None:
        return stored_caller
    token = _token_of(request)
    if not token:
        raise Unauthorized("send the API key as `Authorization: Bearer sk_…`")
    account_id = request.headers.get(ACCOUNT_HEADER)
    caller = await services_of(request).access.caller(token, account_id, lambda: network_work(request, request_class))
    request.state.caller = caller
    # By account: a limit by key would grow with each new key.
    is_allowed, bucket = request.app.state.rates.take(owner_of(caller), time.monotonic())
    request.state.rate_headers = {
        "RateLimit-Limit": f"{bucket.limit}, {bucket.limit};w={PERIOD_SECONDS}",
        "RateLimit-Remaining": str(bucket.remaining),
        "RateLimit-Reset": str(bucket.seconds_until_full),
    }
    if not is_allowed:
        raise TooManyRequests(bucket.seconds_until_token)
    return caller


async def authenticate_again(request: Request, scopes: Sequence[str]) -> None:
    """Check the key of a request again after a wait: it may have ended. Raises `Unauthorized` and `Forbidden`."""
    if token := _token_of(request):
        caller = await services_of(request).access.caller(token, request.headers.get(ACCOUNT_HEADER))
        require_scopes(caller, scopes)


def _token_of(request: Request) -> str:
    """The API key; empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _require_permission(
    request: Request,
    scopes: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    caller = await authenticate(request)
    require_scopes(caller, scopes.scopes)
    return caller


def require_scopes(caller: Caller, scopes: Sequence[str]) -> None:
    """Raise `Forbidden` if a scope is missing."""
    if missing_scopes := [name for name in scopes if name not in caller.permissions]:
        if caller.is_operator:
            require_account(caller)
        raise Forbidden(f"this needs the scope {', '.join(missing_scopes)}, which the API key does not have")


def require_account(caller: Caller) -> None:
    """Raise `Forbidden` for an operator who acts for no account."""
    if caller.account_id is None and not caller.is_for_all:
        raise Forbidden(f"this needs an account's key, or an operator's with the account's id in {ACCOUNT_HEADER}")


def account_of(caller: Caller, account_id: str | None) -> str:
    """The account of the key, or the account that an operator names. Raises `Invalid`."""
    if caller.account_id is None:
        if account_id is None:
            raise Invalid(FieldError("accountId", "is required with an operator's key"))
        return account_id
    if account_id not in (None, caller.account_id):
        raise Invalid(FieldError("accountId", "must be the account of the API key, or absent"))
    return caller.account_id


async def _require_member(caller: Annotated[Caller, Security(_require_permission)]) -> "Member":
    require_account(caller)
    return Member(caller.actor, caller.account_id, caller.permissions)


@dataclass(frozen=True, slots=True)
class Member:
    """A caller within one account; an operator who acts for all accounts has none."""

    actor: str
    account_id: str | None
    permissions: Collection[str]

    @property
    def own_account_id(self) -> str:
        """Raises `Invalid` without an account."""
        if self.account_id is None:
            raise Invalid(FieldError(ACCOUNT_HEADER, "must be the id of an account (--account in commands)"))
        return self.account_id


AnyMember = Annotated[Member, Security(_require_member)]
MayReadWebhooks = Annotated[Member, Security(_require_member, scopes=[Scope.WEBHOOKS_READ])]
MayWriteWebhooks = Annotated[Member, Security(_require_member, scopes=[Scope.WEBHOOKS_WRITE])]
MayReadDeliveries = Annotated[Member, Security(_require_member, scopes=[Scope.DELIVERIES_READ])]
MayWriteDeliveries = Annotated[Member, Security(_require_member, scopes=[Scope.DELIVERIES_WRITE])]
MayPublish = Annotated[Caller, Security(_require_permission, scopes=[Scope.EVENTS_WRITE])]
MayEraseLearners = Annotated[Caller, Security(_require_permission, scopes=[Scope.LEARNERS_ERASE])]
Operator = Annotated[Caller, Security(_require_permission, scopes=[OPERATOR])]
