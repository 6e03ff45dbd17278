"""The person behind a page's request: the session, and what it may do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Depends, Request

from api.services import Services, services_of
from api.shell.branding import Site
from api.shell.forms import Form
from api.shell.security import cookie_name
from api.shell.times import parse_zone
from api.visibility import visible
from streams.core.accounts.access import MANAGE_ACCOUNT, OPERATOR, Caller, Role, Scope
from streams.core.accounts.account import Account, DeliveryFilter
from streams.core.accounts.oidc import ACTOR_PREFIX, OPERATOR_ACTOR_PREFIX
from streams.core.accounts.session import Session
from streams.core.deliveries.delivery import State
from streams.core.errors import Forbidden, ScormWebhooksError, Unauthorized
from streams.core.webhooks.webhook import ListedWebhook

ZONE_COOKIE = "zone"
THEME_COOKIE = "theme"
THEMES = ("light", "dark")
MAX_PAUSED_SHOWN = 3
MAX_PAUSED_READ = MAX_PAUSED_SHOWN + 1


class SignInNeeded(ScormWebhooksError):
    """The page needs a signed-in person."""


class OperatorNeeded(ScormWebhooksError):
    """The page needs an operator."""


class ChoiceNeeded(ScormWebhooksError):
    """A person of several accounts has not chosen one."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a person who is signed in to an account."""

    request: Request
    session: Session
    account: Account
    actor: str
    permissions: frozenset[str]
    # Each page shows which webhooks are paused, and how many events each holds.
    paused: Sequence[tuple[ListedWebhook, int]] = ()

    @property
    def services(self) -> Services:
        return services_of(self.request)

    @property
    def query(self) -> Form:
        """The parameters of the URL, as the fields of a form."""
        parameters = self.request.query_params
        return Form({name: parameters.getlist(name) for name in parameters})

    @property
    def role(self) -> Role:
        assert self.session.role is not None
        return self.session.role

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise `Forbidden` if the person lacks a permission."""
        if not self.may(permission):
            raise Forbidden(f"your role in this account, {self.role}, does not allow this: ask an owner")


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


async def session_of(request: Request) -> Session | None:
    """The session of a request's cookie, if there is a valid one; looked up once."""
    if not hasattr(request.state, "session"):
        request.state.session = await _find_session(request)
    session: Session | None = request.state.session
    return session


async def _find_session(request: Request) -> Session | None:
    token = request.cookies.get(cookie_name(request, site_of(request)))
    if not token:
        return None
    try:
        session = await services_of(request).sessions.find(token)
    except Unauthorized:
        return None
    return session if _is_still_allowed(session, services_of(request)) else None


def _is_still_allowed(session: Session, services: Services) -> bool:
    """Whether the settings still allow a session: an operator's session ends with the key or the group."""
    if session.actor.startswith("operator:"):
        return services.access.is_operator(session.actor)
    if session.actor.startswith(OPERATOR_ACTOR_PREFIX):
        return services.oidc is not None and services.oidc.admits_operators
    return services.oidc is not None or not session.actor.startswith(ACTOR_PREFIX)


@dataclass(frozen=True, slots=True)
class OperatorVisit:
    """A request of an operator."""

    request: Request
    session: Session

    @property
    def services(self) -> Services:
        return services_of(self.request)


async def operator_of(request: Request) -> OperatorVisit:
    """The operator of a request. Raises `OperatorNeeded`."""
    session = await session_of(request)
    if session is None or not session.is_operator:
        raise OperatorNeeded("sign in as an operator")
    request.state.caller = Caller(session.actor, frozenset({OPERATOR}))
    return OperatorVisit(request, session)


async def visit_of(request: Request) -> Visit:
    """The visit of a request. Raises `SignInNeeded` and `ChoiceNeeded`."""
    session = await session_of(request)
    if session is None:
        raise SignInNeeded("sign in")
    caller = session.caller
    if caller is None or caller.account_id is None:
        raise ChoiceNeeded("choose an account")
    request.state.caller = caller
    services = services_of(request)
    async with services.shared_read_transaction():
        account = await services.accounts.find(caller.account_id)
        paused_webhooks = (await services.webhooks.list_paused(account.id, MAX_PAUSED_READ)).rows
        held_counts = [
            await services.search.count(DeliveryFilter(account.id, listed_webhook.id, state=State.HELD))
            for listed_webhook in paused_webhooks[:MAX_PAUSED_SHOWN]
        ]
    visible_pauses = visible(
        tuple(zip(paused_webhooks, [*held_counts, *[0] * len(paused_webhooks)], strict=False)), caller.permissions
    )
    return Visit(request, session, account, caller.actor, caller.permissions, visible_pauses)


SignedIn = Annotated[Visit, Depends(visit_of)]
ByOperator = Annotated[OperatorVisit, Depends(operator_of)]


def _require_permissions(*permissions: str) -> Any:
    async def permitted(visit: SignedIn) -> Visit:
        for permission in permissions:
            visit.require(permission)
        return visit

    return Depends(permitted)


MayManage = Annotated[Visit, _require_permissions(MANAGE_ACCOUNT)]
MayWriteWebhooks = Annotated[Visit, _require_permissions(Scope.WEBHOOKS_WRITE)]
MayWriteDeliveries = Annotated[Visit, _require_permissions(Scope.DELIVERIES_WRITE)]
# Of the scopes of a terminal's key, those that a viewer lacks.
MayConnectTerminals = Annotated[Visit, _require_permissions(Scope.WEBHOOKS_WRITE, Scope.DELIVERIES_WRITE)]
MayEraseLearners = Annotated[Visit, _require_permissions(Scope.LEARNERS_ERASE)]


def theme_of(request: Request) -> str:
    """The colours that this browser chose; empty for the system's colours."""
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else ""


def zone_of(request: Request) -> ZoneInfo:
    """The time zone that this browser chose; UTC until then."""
    return parse_zone(request.cookies.get(ZONE_COOKIE, "")) or ZoneInfo("UTC")
