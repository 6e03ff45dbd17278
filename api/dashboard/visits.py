"""Who looks at a page: the session behind a request, and what it may do."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request

from api.auth import Member
from api.dashboard.branding import Site
from api.dashboard.security import cookie_name
from api.services import Services, services_of
from streams.core.access import Role
from streams.core.account import Account
from streams.core.errors import Forbidden, ScormWebhooksError, Unauthorized
from streams.core.session import Session

ZONE_COOKIE = "zone"


class SignInNeeded(ScormWebhooksError):
    """The page needs a person who is signed in."""


class ChoiceNeeded(ScormWebhooksError):
    """A person of several accounts has not chosen one."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a person who is signed in to an account."""

    request: Request
    session: Session
    account: Account
    member: Member
    permissions: frozenset[str]

    @property
    def services(self) -> Services:
        return services_of(self.request)

    @property
    def role(self) -> Role:
        assert self.session.role is not None
        return self.session.role

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raises `Forbidden`."""
        if not self.may(permission):
            raise Forbidden(f"your role in this account, {self.role}, does not allow this: ask an owner")


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


async def session_of(request: Request) -> Session | None:
    """The session of a request's cookie, if there is a valid one."""
    token = request.cookies.get(cookie_name(request, site_of(request)))
    if not token:
        return None
    try:
        return await services_of(request).sign_in.session(token)
    except Unauthorized:
        return None


async def visit_of(request: Request) -> Visit:
    """Raises `SignInNeeded` and `ChoiceNeeded`."""
    session = await session_of(request)
    if session is None:
        raise SignInNeeded("sign in")
    caller = session.caller
    if caller is None or caller.account_id is None:
        raise ChoiceNeeded("choose an account")
    request.state.caller = caller
    account = await services_of(request).accounts.find(caller.account_id)
    return Visit(request, session, account, Member(caller.actor, caller.account_id), caller.permissions)


def zone_of(request: Request) -> ZoneInfo:
    """The time zone that this browser chose; UTC until then."""
    try:
        return ZoneInfo(request.cookies.get(ZONE_COOKIE, "UTC"))
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
