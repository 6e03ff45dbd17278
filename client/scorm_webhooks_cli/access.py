"""Commands for accounts, API keys, users and the audit log."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorm_webhooks_cli.client import open_api
from scorm_webhooks_cli.output import JsonOption, LimitOption, choice_option, show, without_none
from scorm_webhooks_cli.text import say
from streams.core.accounts.access import Role, Scope
from streams.core.accounts.mail import NOTICE_KINDS
from streams.core.errors import Forbidden
from streams.core.page import MAX_PAGE_ROWS
from streams.core.times import format_time

if TYPE_CHECKING:
    from scorm_webhooks_cli.tables import Columns

# Instead of kinds of mails to mute.
NONE = "none"
MUTE_CHOICES = (*NOTICE_KINDS, NONE)

accounts = typer.Typer(no_args_is_help=True)
api_keys = typer.Typer(no_args_is_help=True)
users = typer.Typer(no_args_is_help=True)
audit = typer.Typer(no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]
ROLE_HELP = "owner: everything, people and keys included; member: webhooks, deliveries, events; viewer: reads."
RoleOption = Annotated[Role, typer.Option(help=ROLE_HELP)]
EmailOption = Annotated[
    list[str] | None, typer.Option("--email", help="Recipient of its notifications; may be repeated.")
]
PlanLimitOption = Annotated[int | None, typer.Option(help="Launches a calendar month in its plan.")]


@accounts.command("create")
def accounts_create(
    name: Annotated[str, typer.Argument(help="The customer's name.")],
    email: EmailOption = None,
    plan_limit: PlanLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an account. Its API key is shown only once."""
    with open_api() as api:
        show(api.post("accounts", body={"name": name, "emails": email or [], "planLimit": plan_limit}), as_json)


@accounts.command("list")
def accounts_list(
    unknown: Annotated[
        bool, typer.Option("--unknown", help="List those that do not exist, and whose events reached nobody.")
    ] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the accounts, newest first."""
    with open_api() as api:
        if unknown:
            show(api.get("unknown-accounts", limit=min(limit, MAX_PAGE_ROWS)), as_json)
            return
        rows = api.rows("accounts", limit=limit)
    show(rows, as_json, {"name": "name", "emails": "emails", "plan limit": "planLimit", "id": "id"})


@accounts.command("update")
def accounts_update(
    account: AccountArgument,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    email: EmailOption = None,
    plan_limit: PlanLimitOption = None,
    weekly_digest: Annotated[
        bool | None,
        typer.Option("--weekly-digest/--no-weekly-digest", help="Send a reminder of dead letters every week."),
    ] = None,
    mute: Annotated[
        list[str] | None,
        typer.Option("--mute", help="Send no mail about this; may be repeated.", **choice_option(MUTE_CHOICES)),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account; options that are not given do not change. `--mute none` sends all mails."""
    muted = None if mute is None else [kind for kind in mute if kind != NONE]
    changes = without_none(
        name=name, emails=email or None, planLimit=plan_limit, weeklyDigest=weekly_digest, mutedMails=muted
    )
    with open_api() as api:
        show(api.patch("accounts", account, body=changes), as_json)


@api_keys.command("create")
def api_keys_create(
    account: AccountArgument,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="A scope of the key; may be repeated. Without it: all scopes.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it expires.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Create an API key. It is shown only once."""
    expires_at = format_time(datetime.now(UTC) + timedelta(days=days)) if days else None
    with open_api() as api:
        body = {"name": name, "scopes": scope or list(Scope), "expiresAt": expires_at}
        show(api.post("accounts", account, "keys", body=body), as_json)


@api_keys.command("list")
def api_keys_list(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List an account's API keys: their first characters, and when each was last used."""
    columns: Columns = {
        "name": "name",
        "scopes": "scopes",
        "last used": "lastUsedAt",
        "ends": _key_expiry,
        "prefix": "prefix",
        "id": "id",
    }
    with open_api() as api:
        show(api.get("accounts", account, "keys"), as_json, columns)


@api_keys.command("revoke")
def api_keys_revoke(
    account: AccountArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")],
    as_json: JsonOption = False,
) -> None:
    """Revoke an API key at once."""
    with open_api() as api:
        api.delete("accounts", account, "keys", key)
    show({"id": key, "revoked": True}, as_json)


@users.command("add")
def users_add(
    account: AccountArgument,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the user.")],
    role: RoleOption = Role.OWNER,
    as_json: JsonOption = False,
) -> None:
    """Add a user, who may sign in to the account's dashboard."""
    with open_api() as api:
        show(api.post("accounts", account, "users", body={"email": email, "role": role}), as_json)


@users.command("role")
def users_role(
    account: AccountArgument,
    user: UserArgument,
    role: Annotated[Role, typer.Argument(help=ROLE_HELP)],
    as_json: JsonOption = False,
) -> None:
    """Change what a user may do, at once."""
    with open_api() as api:
        show(api.patch("accounts", account, "users", user, body={"role": role}), as_json)


@users.command("sign-in")
def users_sign_in(account: AccountArgument, user: UserArgument, as_json: JsonOption = False) -> None:
    """Print a link by which a user signs in to the dashboard, once, within 15 minutes."""
    with open_api() as api:
        show_link(api.post("accounts", account, "users", user, "sign-in-links"), as_json)


@users.command("sessions")
def users_sessions(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List the browsers that are signed in to an account."""
    columns = {
        "actor": "actor",
        "role": "role",
        "since": "createdAt",
        "used": "usedAt",
        "address": "address",
        "id": "id",
    }
    with open_api() as api:
        show(api.get("accounts", account, "sessions"), as_json, columns)


@users.command("sign-out")
def users_sign_out(
    account: AccountArgument,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="An id that `users sessions` shows.")],
    as_json: JsonOption = False,
) -> None:
    """End a session at once."""
    with open_api() as api:
        api.delete("accounts", account, "sessions", session)
    show({"id": session, "revoked": True}, as_json)


@users.command("list")
def users_list(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List the users of an account."""
    with open_api() as api:
        columns = {"email": "email", "role": "role", "created": "createdAt", "id": "id"}
        show(api.get("accounts", account, "users"), as_json, columns)


@users.command("remove")
def users_remove(
    account: AccountArgument,
    user: UserArgument,
    as_json: JsonOption = False,
) -> None:
    """Remove a user, and end the user's sessions."""
    with open_api() as api:
        api.delete("accounts", account, "users", user)
    show({"id": user, "removed": True}, as_json)


@audit.command("list")
def audit_list(
    account: Annotated[str | None, typer.Option(help="Only in this account.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only of this actor, such as operator or key:<id>.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as webhook.paused.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="Only on the object with this id.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the audit log, newest first."""
    with open_api() as api:
        query = {"actor": actor, "action": action, "objectId": object_id}
        try:
            rows = api.rows("audit", limit=limit, accountId=account, **query)
        except Forbidden:
            # The key of an account sees the log of its account.
            if account is not None:
                api.act_for(account)
            rows = api.rows("account", "audit", limit=limit, **query)
    columns = {"at": "at", "actor": "actor", "action": "action", "details": "details", "object": "objectId"}
    show(rows, as_json, columns)


def show_link(link: Mapping[str, Any], as_json: bool) -> None:
    """Print a link for a person, or the API's JSON."""
    if as_json:
        show(link, as_json)
    else:
        say(link["url"])


def _key_expiry(key: Mapping[str, Any]) -> str:
    if "revokedAt" in key:
        return f"revoked {key['revokedAt']}"
    return str(key.get("expiresAt", "never"))
