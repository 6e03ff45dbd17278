"""Pages of an account: API keys, people, signed-in browsers, mails, and the audit log."""

from collections.abc import Iterable
from datetime import timedelta

from fastapi import APIRouter
from starlette.responses import Response

from api.paging import cursor_of
from api.shell.forms import SentForm, with_query
from api.shell.once import new_form_key, run_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.rows import actor_name, actor_names, names_by_id
from api.shell.visits import MayManage, SignedIn, Visit
from streams.core.accounts.access import MANAGE_ACCOUNT, NewKey, Role, Scope
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.accounts.mail import NOTICE_KINDS, MailKind
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import is_storable
from streams.core.ids import is_id

# What each scope permits, for the form of a new key.
SCOPE_DESCRIPTIONS = {
    Scope.WEBHOOKS_READ: "see webhooks, their health and numbers, mails and the audit log",
    Scope.WEBHOOKS_WRITE: "register, change, test, pause and delete webhooks, and see their secrets",
    Scope.EVENTS_WRITE: "publish events",
    Scope.DELIVERIES_READ: "see deliveries with their payloads and attempts",
    Scope.DELIVERIES_WRITE: "send again, and discard",
    Scope.LEARNERS_ERASE: "erase learners for good",
}
assert SCOPE_DESCRIPTIONS.keys() == set(Scope)

# What each kind of notice tells, for the form of the mails.
NOTICE_DESCRIPTIONS = {
    MailKind.FAILING: "a webhook has failed for five minutes",
    MailKind.PAUSED: "a webhook was paused",
    MailKind.STILL_PAUSED: "a webhook has been paused for a day",
    MailKind.RECOVERED: "a webhook delivers again",
    MailKind.DEAD_LETTERS: "a webhook has had dead letters for a day",
    MailKind.SECRET_ENDING: "the old signing secret of a webhook ends within six hours",
    MailKind.CERTIFICATE_ENDING: "the certificate of an endpoint ends within two weeks",
    MailKind.QUOTA: "80 or 100 percent of the plan's launches are used",
}
assert tuple(NOTICE_DESCRIPTIONS) == NOTICE_KINDS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PAGE_ROWS = 50
# Each has its whole text.
PAGE_MAILS = 20


async def _account_page(visit: Visit, new_key: NewKey | None = None, errors: tuple[FieldError, ...] = ()) -> Response:
    services, account_id = visit.services, visit.account.id
    can_manage = visit.may(MANAGE_ACCOUNT)
    return render(
        visit,
        "account.html",
        has_secret=new_key is not None,
        return_path="/account",
        errors=errors,
        manage=can_manage,
        keys=await services.access.keys(account_id) if can_manage else [],
        users=await services.access.users(account_id),
        sessions=await services.sessions.list(account_id) if can_manage else [],
        roles=list(Role),
        scopes=SCOPE_DESCRIPTIONS,
        made=new_key,
        once=new_form_key(),
        has_other_accounts=len(await services.sessions.account_choices(visit.session)) > 1,
    )


@router.get("/account")
async def account_page(visit: SignedIn) -> Response:
    """API keys and people."""
    return await _account_page(visit)


@router.post("/account/keys")
@run_once
async def add_key(visit: MayManage, form: SentForm) -> Response:
    """Add a key, and show it once."""
    try:
        days = form.number("days", "days", 0)
        expires_at = visit.services.clock.now() + timedelta(days=days) if days else None
        new_key = await visit.services.access.add_key(
            visit.account.id, form["name"], form.values("scopes"), expires_at, actor=visit.actor
        )
    except (Invalid, OverflowError) as error:
        errors = error.errors if isinstance(error, Invalid) else (FieldError("days", "is too long"),)
        return await _account_page(visit, errors=errors)
    return await _account_page(visit, new_key)


@router.post("/account/keys/{key_id}/revoke")
async def revoke_key(key_id: str, visit: MayManage) -> Response:
    await visit.services.access.revoke_key(visit.account.id, key_id, actor=visit.actor)
    return redirect("/account")


@router.post("/account/keys/{key_id}/remove")
async def remove_key(key_id: str, visit: MayManage) -> Response:
    """Delete a key that has ended."""
    await visit.services.access.remove_key(visit.account.id, key_id, actor=visit.actor)
    return redirect("/account")


@router.post("/account/users")
async def add_user(visit: MayManage, form: SentForm) -> Response:
    try:
        role = form.one_of("role", Role)
        await visit.services.access.add_user(visit.account.id, form["email"], role, actor=visit.actor)
    except Invalid as error:
        return await _account_page(visit, errors=error.errors)
    return redirect("/account")


@router.post("/account/users/{user_id}/role")
async def change_role(user_id: str, visit: MayManage, form: SentForm) -> Response:
    await visit.services.access.change_role(visit.account.id, user_id, form.one_of("role", Role), actor=visit.actor)
    return redirect("/account")


@router.post("/account/users/{user_id}/remove")
async def remove_user(user_id: str, visit: MayManage) -> Response:
    await visit.services.access.remove_user(visit.account.id, user_id, actor=visit.actor)
    return redirect("/account")


@router.post("/account/sessions/{session_id}/revoke")
async def revoke_session(session_id: str, visit: MayManage) -> Response:
    await visit.services.sessions.revoke(visit.account.id, session_id, actor=visit.actor)
    return redirect("/account")


def _webhook_ids(rows: Iterable[AuditEntry]) -> set[str]:
    """Ids in these entries that may be webhook ids."""
    ids = {row.object_id for row in rows} | {value for row in rows for value in row.details.values() if is_id(value)}
    return {object_id for object_id in ids if object_id.startswith("wh_")}


@router.get("/audit")
async def audit_page(visit: SignedIn, after: str | None = None) -> Response:
    """The audit log, newest first."""
    query = visit.request.query_params
    filters = {name: query[name].strip() for name in ("actor", "action", "object") if query.get(name, "").strip()}
    for name, text in filters.items():
        if not is_storable(text):
            raise Invalid(FieldError(name, "must not contain the character NUL"))
    audit_filter = AuditFilter(visit.account.id, filters.get("actor"), filters.get("action"), filters.get("object"))
    page = await visit.services.audit.list(audit_filter, cursor_of(after), PAGE_ROWS)
    people = await actor_names(visit)
    return render(
        visit,
        "audit.html",
        rows=page.rows,
        actors={row.actor: actor_name(row.actor, people) for row in page.rows},
        names={**people, **await names_by_id(visit, _webhook_ids(page.rows))},
        given=filters,
        next=with_query("/audit", **filters, after=page.next_cursor) if page.next_cursor else None,
        with_query=with_query,
    )


@router.get("/notifications")
async def notifications_page(visit: SignedIn, after: str | None = None) -> Response:
    """The mails to the account, newest first."""
    page = await visit.services.mails.page(visit.account.id, cursor_of(after), PAGE_MAILS)
    return render(
        visit,
        "notifications.html",
        rows=page.rows,
        next=page.next_cursor,
        manage=visit.may(MANAGE_ACCOUNT),
        kinds=NOTICE_DESCRIPTIONS,
        muted=visit.account.muted_mails,
    )


@router.post("/notifications")
async def choose_mails(visit: MayManage, form: SentForm) -> Response:
    """Choose the kinds of notices that are mailed."""
    chosen = form.values("mailed")
    muted_mails = tuple(kind for kind in NOTICE_KINDS if kind not in chosen)
    await visit.services.accounts.change(visit.account.id, {"muted_mails": muted_mails}, actor=visit.actor)
    return redirect("/notifications?done=saved")
