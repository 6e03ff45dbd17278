"""Commands for accounts, API keys, users and the audit log."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.accounts.access_models import Key, KeyWithText, SessionDetails, SignInLink, UserDetails
from api.accounts.models import AccountDetails, AccountWithKey, AuditLogEntry
from streams.cli.output import JsonOption, LimitOption, current_actor, read_rows, run_in_deployment, show
from streams.cli.text import say
from streams.core.accounts.access import Role, Scope
from streams.core.accounts.audit import AuditFilter
from streams.features.sign_in.service import Link

if TYPE_CHECKING:
    from streams.cli.tables import Columns

accounts = typer.Typer(no_args_is_help=True)
api_keys = typer.Typer(no_args_is_help=True)
users = typer.Typer(no_args_is_help=True)
operators = typer.Typer(no_args_is_help=True)
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
    new_account = run_in_deployment(
        lambda deployment: deployment.accounts().open(name, email or (), plan_limit, actor=current_actor())
    )
    show(AccountWithKey.of(new_account.account, new_account), as_json)


@accounts.command("list")
def accounts_list(
    unknown: Annotated[
        bool, typer.Option("--unknown", help="List those that do not exist, and whose events reached nobody.")
    ] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the accounts, newest first."""
    if unknown:
        unknown_accounts = run_in_deployment(lambda deployment: deployment.unknown_accounts().newest(limit))
        names = {"account_id": "account", "events": "events", "first_at": "firstAt", "last_at": "lastAt"}
        show(
            [
                {names[name]: value for name, value in unknown_account._asdict().items()}
                for unknown_account in unknown_accounts
            ],
            as_json,
        )
        return
    rows = run_in_deployment(lambda deployment: read_rows(deployment.accounts().page, limit))
    columns = {"name": "name", "emails": "emails", "plan limit": "planLimit", "id": "id"}
    show([AccountDetails.of(account) for account in rows], as_json, columns)


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
    as_json: JsonOption = False,
) -> None:
    """Change an account; options that are not given do not change."""
    options = {"name": name, "emails": email or None, "plan_limit": plan_limit, "weekly_digest": weekly_digest}
    changes = {field: value for field, value in options.items() if value is not None}
    changed_account = run_in_deployment(
        lambda deployment: deployment.accounts().change(account, changes, actor=current_actor())
    )
    show(AccountDetails.of(changed_account), as_json)


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
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    scopes = [str(name_of_scope) for name_of_scope in scope or list(Scope)]
    new_key = run_in_deployment(
        lambda deployment: deployment.access().add_key(account, name, scopes, expires_at, actor=current_actor())
    )
    show(KeyWithText.of(new_key.key, new_key), as_json)


@api_keys.command("list")
def api_keys_list(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List an account's API keys: their first characters, and when each was last used."""
    keys = run_in_deployment(lambda deployment: deployment.access().keys(account))
    columns: Columns = {
        "name": "name",
        "scopes": "scopes",
        "last used": "lastUsedAt",
        "ends": _key_expiry,
        "prefix": "prefix",
        "id": "id",
    }
    show([Key.of(key) for key in keys], as_json, columns)


@api_keys.command("revoke")
def api_keys_revoke(
    account: AccountArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")],
    as_json: JsonOption = False,
) -> None:
    """Revoke an API key at once."""
    run_in_deployment(lambda deployment: deployment.access().revoke_key(account, key, actor=current_actor()))
    show({"id": key, "revoked": True}, as_json)


@users.command("add")
def users_add(
    account: AccountArgument,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address of the user.")],
    role: RoleOption = Role.OWNER,
    as_json: JsonOption = False,
) -> None:
    """Add a user, who may sign in to the account's dashboard."""
    user = run_in_deployment(
        lambda deployment: deployment.access().add_user(account, email, role, actor=current_actor())
    )
    show(UserDetails.of(user), as_json)


@users.command("role")
def users_role(
    account: AccountArgument,
    user: UserArgument,
    role: Annotated[Role, typer.Argument(help=ROLE_HELP)],
    as_json: JsonOption = False,
) -> None:
    """Change what a user may do, at once."""
    changed_user = run_in_deployment(
        lambda deployment: deployment.access().change_role(account, user, role, actor=current_actor())
    )
    show(UserDetails.of(changed_user), as_json)


@users.command("sign-in")
def users_sign_in(account: AccountArgument, user: UserArgument, as_json: JsonOption = False) -> None:
    """Print a link by which a user signs in to the dashboard, once, within 15 minutes."""
    link = run_in_deployment(
        lambda deployment: deployment.sign_in().create_user_link(account, user, actor=current_actor())
    )
    _show_link(link, as_json)


@operators.command("sign-in")
def operators_sign_in(as_json: JsonOption = False) -> None:
    """Print a link by which an operator signs in to the dashboard, once, within 15 minutes."""
    link = run_in_deployment(lambda deployment: deployment.sign_in().create_operator_link(actor=current_actor()))
    _show_link(link, as_json)


@users.command("sessions")
def users_sessions(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List the browsers that are signed in to an account."""
    sessions = run_in_deployment(lambda deployment: deployment.sessions().list(account))
    columns = {
        "actor": "actor",
        "role": "role",
        "since": "createdAt",
        "used": "usedAt",
        "address": "address",
        "id": "id",
    }
    show([SessionDetails.of(session) for session in sessions], as_json, columns)


@users.command("sign-out")
def users_sign_out(
    account: AccountArgument,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="An id that `users sessions` shows.")],
    as_json: JsonOption = False,
) -> None:
    """End a session at once."""
    run_in_deployment(lambda deployment: deployment.sessions().revoke(account, session, actor=current_actor()))
    show({"id": session, "revoked": True}, as_json)


@users.command("list")
def users_list(account: AccountArgument, as_json: JsonOption = False) -> None:
    """List the users of an account."""
    account_users = run_in_deployment(lambda deployment: deployment.access().users(account))
    show(
        [UserDetails.of(user) for user in account_users],
        as_json,
        {"email": "email", "role": "role", "created": "createdAt", "id": "id"},
    )


@users.command("remove")
def users_remove(
    account: AccountArgument,
    user: UserArgument,
    as_json: JsonOption = False,
) -> None:
    """Remove a user, and end the user's sessions."""
    run_in_deployment(lambda deployment: deployment.access().remove_user(account, user, actor=current_actor()))
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
    audit_filter = AuditFilter(account, actor, action, object_id)
    rows = run_in_deployment(lambda deployment: read_rows(partial(deployment.audit().list, audit_filter), limit))
    columns = {"at": "at", "actor": "actor", "action": "action", "details": "details", "object": "objectId"}
    show([AuditLogEntry.of(audit_entry) for audit_entry in rows], as_json, columns)


def _show_link(link: Link, as_json: bool) -> None:
    if as_json:
        show(SignInLink.of(link), as_json)
    else:
        say(link.url)


def _key_expiry(key: Mapping[str, Any]) -> str:
    if "revokedAt" in key:
        return f"revoked {key['revokedAt']}"
    return str(key.get("expiresAt", "never"))
