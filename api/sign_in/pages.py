"""Pages to sign in and out: a mailed code or link, a link of the platform, the choice of an account."""

from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.services import services_of
from api.shell.forms import Form, SentForm, form_of, with_query
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.security import CODE_COOKIE, cookie_name, delete_cookie, set_cookie, to_own_path
from api.shell.visits import THEME_COOKIE, THEMES, ZONE_COOKIE, SignInNeeded, session_of, site_of, visit_of
from api.sign_in.limits import browser_of, limit_attempts
from streams.core.errors import FieldError, Invalid, Unauthorized
from streams.features.sign_in.service import OpenedSignIn

router = APIRouter(include_in_schema=False, route_class=PageRoute)

OIDC_PATH = "/sign-in/oidc"


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = "/") -> Response:
    """The form for the address; its next page asks for the code."""
    if await session_of(request) is not None:
        return redirect(to_own_path(next))
    return _form(request, to_own_path(next))


def _form(request: Request, next_path: str, email: str = "", errors: tuple[FieldError, ...] = ()) -> Response:
    oidc = services_of(request).oidc
    link = {"oidc_name": oidc.name, "oidc_path": with_query(OIDC_PATH, next=next_path)} if oidc else {"oidc_name": None}
    return render(request, "sign_in.html", errors=errors, next=next_path, email=email, **link)


@router.post("/sign-in")
async def ask(request: Request, form: SentForm) -> Response:
    """Mail a code. The page is the same for an address without a user."""
    next_path = to_own_path(form["next"])
    limit_attempts(request)
    try:
        browser_token = await services_of(request).sign_in.send_sign_in_mail(form["email"])
    except Invalid as error:
        return _form(request, next_path, form["email"], error.errors)
    response = redirect(with_query("/sign-in/code", next=next_path))
    set_cookie(response, request, site_of(request), browser_token, CODE_COOKIE)
    return response


@router.get("/sign-in/code")
async def code_page(request: Request, next: str = "/") -> Response:
    """The form for the code from the mail."""
    return render(request, "sign_in_code.html", next=to_own_path(next))


@router.post("/sign-in/code")
async def redeem_code(request: Request, form: SentForm) -> Response:
    next_path = to_own_path(form["next"])
    token = request.cookies.get(cookie_name(request, site_of(request), CODE_COOKIE), "")
    try:
        new_session = await services_of(request).sign_in.sign_in_by_code(token, form["code"], browser_of(request))
    except Unauthorized as error:
        limit_attempts(request)
        errors = (FieldError("code", str(error)),)
        return render(request, "sign_in_code.html", status=403, errors=errors, next=next_path)
    return finish_sign_in(request, new_session, next_path)


@router.get("/sign-in/{token}")
async def link_page(token: str, request: Request) -> Response:
    """Show who signs in, and a button: programs that check mails open links, and must not use them up."""
    try:
        holder = await services_of(request).sign_in.find_link_holder(token)
    except Unauthorized:
        limit_attempts(request)
        raise
    return render(request, "sign_in_link.html", token=token, holder=holder)


@router.post("/sign-in/{token}")
async def redeem_link(token: str, request: Request) -> Response:
    try:
        new_session = await services_of(request).sign_in.sign_in_by_link(token, browser_of(request))
    except Unauthorized:
        limit_attempts(request)
        raise
    return finish_sign_in(request, new_session, "/")


def finish_sign_in(request: Request, new_session: OpenedSignIn, next_path: str) -> Response:
    """Set the session's cookie, and redirect to a page of the dashboard."""
    if new_session.session.is_operator:
        response = redirect("/operator")
    else:
        response = redirect(next_path if new_session.session.caller else with_query("/choose-account", next=next_path))
    # Each sign-in has a new token, so an earlier one is worthless.
    set_cookie(response, request, site_of(request), new_session.token)
    delete_cookie(response, request, site_of(request), CODE_COOKIE)
    return response


@router.get("/choose-account")
async def choose_page(request: Request, next: str = "/") -> Response:
    """The accounts of a person with several accounts."""
    session = await session_of(request)
    if session is None:
        raise SignInNeeded
    services = services_of(request)
    session_choices = await services.sessions.account_choices(session)
    choices = [await services.accounts.find(choice.account_id) for choice in session_choices if choice.account_id]
    return render(
        await visit_of(request) if session.caller else request,
        "choose_account.html",
        person=session,
        choices=choices,
        chosen=session.account_id,
        next=to_own_path(next),
    )


@router.post("/choose-account")
async def choose(request: Request) -> Response:
    session = await session_of(request)
    if session is None:
        raise SignInNeeded
    form = await form_of(request)
    await services_of(request).sessions.choose(session, form["account"])
    return redirect(to_own_path(form["next"]))


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    session = await session_of(request)
    if session is not None:
        await services_of(request).sessions.sign_out(session)
    response = redirect(session.return_url if session and session.return_url else "/sign-in")
    delete_cookie(response, request, site_of(request))
    return response


@router.post("/zone")
async def choose_zone(form: SentForm) -> Response:
    """Show times in this zone, in this browser."""
    zone = "UTC" if form["utc"] else form["zone"]
    if zone not in available_timezones():
        raise Invalid(FieldError("zone", "is not a time zone such as Europe/Berlin"))
    return _store_choice(form, ZONE_COOKIE, ZoneInfo(zone).key)


@router.post("/theme")
async def choose_theme(form: SentForm) -> Response:
    """Light or dark in this browser; without a choice, the system's setting."""
    if form["theme"] not in ("", *THEMES):
        raise Invalid(FieldError("theme", f"is one of {', '.join(THEMES)}, or empty"))
    return _store_choice(form, THEME_COOKIE, form["theme"])


def _store_choice(form: Form, cookie: str, value: str) -> Response:
    response = redirect(to_own_path(form["next"]))
    response.set_cookie(cookie, value, max_age=31_536_000, samesite="lax", httponly=True)
    return response
