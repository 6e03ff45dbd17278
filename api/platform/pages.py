"""Pages of operators: accounts, failing and slow webhooks, waiting deliveries, and how far the stages are behind."""

import contextlib

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.admission import in_class
from api.paging import cursor_of
from api.services import services_of
from api.shell.forms import SentForm, with_query
from api.shell.once import new_form_key, run_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.security import set_cookie
from api.shell.visits import ByOperator, OperatorVisit, site_of
from api.sign_in.limits import browser_of, limit_attempts
from streams.core.accounts.access import OPERATOR, Role
from streams.core.errors import FieldError, Invalid, Unauthorized, Unavailable
from streams.core.queues.request_class import RequestClass
from streams.features.accounts.service import OpenedAccount

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PAGE_ROWS = 50


@router.get("/operator/sign-in")
async def sign_in_page(request: Request) -> Response:
    return render(request, "operator_sign_in.html")


@router.post("/operator/sign-in")
async def sign_in(request: Request, form: SentForm) -> Response:
    """Sign in with the operator key. Only the session is kept, not the key."""
    services = services_of(request)
    caller = None
    with contextlib.suppress(Unauthorized):
        caller = await services.access.caller(form["key"])
    if caller is None or OPERATOR not in caller.permissions:
        limit_attempts(request)
        errors = (FieldError("key", "is not an operator key of SCORM_WEBHOOKS_OPERATOR_KEYS"),)
        return render(request, "operator_sign_in.html", status=403, errors=errors)
    new_session = await services.sign_in.sign_in_operator(caller.actor, browser_of(request))
    response = redirect("/operator")
    set_cookie(response, request, site_of(request), new_session.token)
    return response


@router.get("/operator")
async def operator_page(visit: ByOperator, after: str | None = None) -> Response:
    """The problems that need an operator first, then the accounts."""
    return await _operator_page(visit, after)


async def _operator_page(
    visit: OperatorVisit,
    after: str | None = None,
    opened_account: OpenedAccount | None = None,
    errors: tuple[FieldError, ...] = (),
    form_values: dict[str, str] | None = None,
) -> Response:
    platform, name = visit.services.platform, visit.request.query_params.get("name", "").strip()
    page = await platform.accounts(cursor_of(after), PAGE_ROWS, name)
    return render(
        visit,
        "operator.html",
        has_secret=opened_account is not None,
        return_path="/operator",
        once=new_form_key(),
        errors=errors,
        accounts=page.rows,
        next=with_query("/operator", name=name, after=page.next_cursor) if page.next_cursor else None,
        failing=await platform.list_failing_webhooks(),
        slowest=await platform.list_slowest_webhooks(),
        waiting=await platform.waiting_by_tier(),
        unknown=await platform.unknown_accounts(),
        failed_work=await platform.failed_work(),
        opened=opened_account,
        name=name,
        typed=form_values or {"account_name": "", "emails": "", "plan_limit": ""},
        roles=list(Role),
    )


@router.get("/operator/stages")
@in_class(RequestClass.SLOW)
async def stages_page(visit: ByOperator) -> Response:
    """The lag of each stage, by topic; the request to Kafka can take some seconds."""
    try:
        lags, problem = await visit.services.platform.lags(), None
    except Unavailable as error:
        lags, problem = [], str(error)
    problems = await visit.services.readiness_problems()
    return render(visit, "operator_stages.html", lags=lags, problem=problem, problems=problems)


@router.post("/operator/accounts")
@run_once
async def open_account(visit: ByOperator, form: SentForm) -> Response:
    """Open an account; the page shows its first API key once."""
    try:
        limit = form.number("plan_limit", "planLimit", 0) or None
        new_account = await visit.services.accounts.open(
            form["account_name"], form.lines("emails"), limit, actor=visit.session.actor
        )
    except Invalid as error:
        form_values = {name: form[name] for name in ("account_name", "emails", "plan_limit")}
        return await _operator_page(visit, errors=error.errors, form_values=form_values)
    return await _operator_page(visit, opened_account=new_account)


@router.post("/operator/accounts/{account_id}/plan-limit")
async def set_plan_limit(account_id: str, visit: ByOperator, form: SentForm) -> Response:
    """Set a plan limit; empty means no limit."""
    limit = form.number("plan_limit", "planLimit", 0) or None
    await visit.services.accounts.change(account_id, {"plan_limit": limit}, actor=visit.session.actor)
    return redirect("/operator")


@router.post("/operator/accounts/{account_id}/enter")
async def enter(account_id: str, visit: ByOperator, form: SentForm) -> Response:
    """Show an account as its users see it; its audit log records this."""
    await visit.services.sessions.enter_account(visit.session, account_id, form.one_of("role", Role))
    return redirect("/")


@router.post("/operator/leave")
async def leave_account(visit: ByOperator) -> Response:
    await visit.services.sessions.leave_account(visit.session)
    return redirect("/operator")
