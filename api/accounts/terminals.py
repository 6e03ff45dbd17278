"""The page that connects a terminal: one command with a key that soon expires."""

import shlex

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.forms import SentForm
from api.shell.once import new_form_key, run_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import MayConnectTerminals, SignedIn, Visit, site_of
from streams.core.errors import Conflict
from streams.features.accounts.terminals import TERMINAL_LIFETIME, TERMINAL_SCOPES, NewTerminal

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_FORWARD_TO = "http://localhost:3000/hook"
_TRIGGER = "trigger session.completed --passed"


async def _terminal_page(visit: Visit, new_terminal: NewTerminal | None = None, problem: str = "") -> Response:
    api_url = site_of(visit.request).origin or str(visit.request.base_url).rstrip("/")
    may_connect = all(map(visit.may, TERMINAL_SCOPES))
    terminals = visit.services.terminals
    return render(
        visit,
        "terminal.html",
        status=409 if problem else None,
        has_secret=new_terminal is not None,
        return_path="/account/terminal",
        may_connect=may_connect,
        problem=problem,
        key=new_terminal.key if new_terminal else None,
        api_key=new_terminal.api_key if new_terminal else "",
        command=_command(api_url, new_terminal.api_key, f"listen --forward-to {_FORWARD_TO}") if new_terminal else "",
        trigger_command=_command(api_url, new_terminal.api_key, _TRIGGER) if new_terminal else "",
        login_command=f"scorm-webhooks login {shlex.quote(api_url)}",
        terminals=await terminals.list(visit.account.id, actor=visit.actor) if may_connect else (),
        hours=TERMINAL_LIFETIME.total_seconds() // 3600,
        scopes=TERMINAL_SCOPES,
        once=new_form_key(),
    )


def _command(api_url: str, api_key: str, arguments: str) -> str:
    """A command with the key of a terminal, for a shell."""
    settings = f"SCORM_WEBHOOKS_API_URL={shlex.quote(api_url)} SCORM_WEBHOOKS_API_KEY={shlex.quote(api_key)}"
    return f"{settings} \\\n  scorm-webhooks {arguments}"


@router.get("/account/terminal")
async def terminal_page(visit: SignedIn) -> Response:
    """How to connect a terminal, and the connected terminals of the person."""
    return await _terminal_page(visit)


@router.post("/account/terminal")
@run_once
async def connect(visit: MayConnectTerminals, form: SentForm) -> Response:
    """Make a key for a terminal, and show its command once."""
    person_name = visit.session.email or visit.actor
    try:
        new_terminal = await visit.services.terminals.connect(visit.account.id, person_name, actor=visit.actor)
    except Conflict as error:
        return await _terminal_page(visit, problem=str(error))
    return await _terminal_page(visit, new_terminal)


@router.post("/account/terminal/{key_id}/disconnect")
async def disconnect(key_id: str, visit: MayConnectTerminals) -> Response:
    """Revoke the key of one of the person's terminals."""
    await visit.services.terminals.disconnect(visit.account.id, key_id, actor=visit.actor)
    return redirect("/account/terminal")
