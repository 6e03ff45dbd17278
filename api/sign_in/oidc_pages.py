"""Pages to sign in by an OpenID Connect provider: a link to the provider, and the callback of the browser."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.services import services_of
from api.shell.page_route import PageRoute, error_page, visitor_of
from api.shell.rendering import redirect
from api.shell.security import OIDC_COOKIE, cookie_name, delete_cookie, set_cookie, to_own_path
from api.shell.visits import site_of
from api.sign_in.limits import browser_of, limit_attempts
from api.sign_in.pages import OIDC_PATH, finish_sign_in
from streams.core.accounts.oidc import PENDING_LIFETIME, NotAdmitted, ProviderRefused, SignInRefused
from streams.core.errors import NotFound, ProviderFailed
from streams.features.sign_in.oidc import OIDC_CALLBACK_PATH, OidcService, ProviderAnswer

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(OIDC_PATH)
async def begin(request: Request, next: str = "/") -> Response:
    """Go to the provider. A link, because `form-action 'self'` stops a form that leads to another site."""
    oidc = _oidc(request)
    limit_attempts(request)
    try:
        pending_sign_in = await oidc.begin(to_own_path(next))
    except ProviderFailed:
        return await _provider_failed_page(request, oidc)
    response = redirect(pending_sign_in.url)
    set_cookie(response, request, site_of(request), pending_sign_in.browser_token, OIDC_COOKIE, PENDING_LIFETIME)
    return response


@router.get(OIDC_CALLBACK_PATH)
async def callback(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Handle the callback. Only the browser that went to the provider is accepted, because it has the cookie."""
    oidc, site = _oidc(request), site_of(request)
    browser_token = request.cookies.get(cookie_name(request, site, OIDC_COOKIE), "")
    try:
        sign_in = await oidc.finish(ProviderAnswer(state, code, error), browser_token, browser_of(request))
        response = finish_sign_in(request, sign_in.opened_sign_in, to_own_path(sign_in.next_page))
    except ProviderFailed:
        response = await _provider_failed_page(request, oidc)
    except SignInRefused as refusal:
        response = await _page(request, 403, "Not signed in", _explain(refusal, oidc.name))
    delete_cookie(response, request, site, OIDC_COOKIE)
    return response


def _oidc(request: Request) -> OidcService:
    oidc = services_of(request).oidc
    if oidc is None:
        raise NotFound("this dashboard has no sign-in by OpenID Connect")
    return oidc


def _explain(error: SignInRefused, name: str) -> str:
    """What to do next. The reason itself is in the log, because it may reveal facts about other people."""
    if isinstance(error, NotAdmitted):
        return (
            f"{name} knows you, but you have no account here yet. "
            "Ask an owner of your account to add your e-mail address, or ask the people who run this platform."
        )
    if isinstance(error, ProviderRefused):
        return f"{name} did not sign you in. Try again, or let us send you a code."
    return (
        f"The sign-in with {name} has expired, was used already, began in another browser, "
        "or came back with an answer that is not valid. Start again."
    )


async def _provider_failed_page(request: Request, oidc: OidcService) -> Response:
    message = f"{oidc.name} does not work at the moment. Try again in a minute, or let us send you a code."
    return await _page(request, 503, "The sign-in does not work now", message)


async def _page(request: Request, status: int, heading: str, message: str) -> Response:
    return error_page(request, await visitor_of(request), status, heading, [message])
