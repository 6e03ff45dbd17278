"""The commands for accounts and for access to them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from streams.cli.output import JsonOption, in_deployment, me, show
from streams.core.access import ApiKey, Scope
from streams.core.account import Account
from streams.core.page import Page

accounts = typer.Typer(no_args_is_help=True, help="Customers of the platform.")
api_keys = typer.Typer(no_args_is_help=True, help="Keys to the API of an account.")
users = typer.Typer(no_args_is_help=True, help="Who may sign in to an account's dashboard.")
audit = typer.Typer(no_args_is_help=True, help="Who did what.")

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]
Emails = Annotated[list[str] | None, typer.Option("--email", help="Who gets its notifications; may be repeated.")]
PlanLimit = Annotated[int | None, typer.Option(help="Launches a calendar month, by its plan.")]


@accounts.command("create")
def accounts_create(
    name: Annotated[str, typer.Argument(help="The customer's name.")],
    email: Emails = None,
    plan_limit: PlanLimit = None,
    as_json: JsonOption = False,
) -> None:
    """Open an account. Its API key is shown this once."""
    opened = in_deployment(lambda deployment: deployment.accounts().open(name, email or (), plan_limit, by=me()))
    show({**account_fields(opened.account), "apiKey": opened.api_key}, as_json)


@accounts.command("list")
def accounts_list(as_json: JsonOption = False) -> None:
    """List the accounts."""
    found = in_deployment(lambda deployment: deployment.accounts().list())
    show([account_fields(account) for account in found], as_json)


@accounts.command("update")
def accounts_update(
    account: AccountId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    email: Emails = None,
    plan_limit: PlanLimit = None,
    weekly_digest: Annotated[
        bool | None, typer.Option("--weekly-digest/--no-weekly-digest", help="Remind of dead letters every week.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account; what is not given stays as it is."""
    given = {"name": name, "emails": email or None, "plan_limit": plan_limit, "weekly_digest": weekly_digest}
    changes = {field: value for field, value in given.items() if value is not None}
    show(
        account_fields(in_deployment(lambda deployment: deployment.accounts().change(account, changes, by=me()))),
        as_json,
    )


@api_keys.command("create")
def api_keys_create(
    account: AccountId,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it permits; may be repeated. Without it: everything.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="It expires after so many days.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key. It is shown this once."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    scopes = [str(one) for one in scope or list(Scope)]
    made = in_deployment(lambda deployment: deployment.access().add_key(account, name, scopes, expires_at, by=me()))
    show({**_key_fields(made.key), "apiKey": made.api_key}, as_json)


@api_keys.command("list")
def api_keys_list(account: AccountId, as_json: JsonOption = False) -> None:
    """List an account's keys by their starts, with when each was last used."""
    found = in_deployment(lambda deployment: deployment.access().keys(account))
    show([_key_fields(key) for key in found], as_json)


@api_keys.command("revoke")
def api_keys_revoke(
    account: AccountId,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")],
    as_json: JsonOption = False,
) -> None:
    """Let a key open nothing any more, at once."""
    in_deployment(lambda deployment: deployment.access().revoke_key(account, key, by=me()))
    show({"id": key, "revoked": True}, as_json)


@users.command("add")
def users_add(
    account: AccountId,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The person's e-mail address.")],
    as_json: JsonOption = False,
) -> None:
    """Let somebody sign in to an account's dashboard."""
    user = in_deployment(lambda deployment: deployment.access().add_user(account, email, by=me()))
    show({"id": user.id, "email": user.email, "createdAt": user.created_at}, as_json)


@users.command("list")
def users_list(account: AccountId, as_json: JsonOption = False) -> None:
    """List who may sign in."""
    found = in_deployment(lambda deployment: deployment.access().users(account))
    show([{"id": user.id, "email": user.email, "createdAt": user.created_at} for user in found], as_json)


@users.command("remove")
def users_remove(
    account: AccountId,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    as_json: JsonOption = False,
) -> None:
    """Let somebody sign in no more."""
    in_deployment(lambda deployment: deployment.access().remove_user(account, user, by=me()))
    show({"id": user, "removed": True}, as_json)


@audit.command("list")
def audit_list(
    account: Annotated[str | None, typer.Option(help="Only in this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List who did what, newest first."""
    page: Page[Any] = in_deployment(lambda deployment: deployment.audit().list(account, None, limit))
    show(
        [
            {
                "at": audit_entry.at,
                "actor": audit_entry.actor,
                "action": audit_entry.action,
                "accountId": audit_entry.account_id,
                "objectId": audit_entry.object_id,
                "details": dict(audit_entry.details),
            }
            for audit_entry in page.rows
        ],
        as_json,
    )


def account_fields(account: Account) -> dict[str, Any]:
    """An account."""
    return {
        "id": account.id,
        "name": account.name,
        "emails": list(account.emails),
        "planLimit": account.plan_limit,
        "weeklyDigest": account.weekly_digest,
        "createdAt": account.created_at,
    }


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(map(str, key.scopes)),
        "createdAt": key.created_at,
        "lastUsedAt": key.last_used_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
    }
