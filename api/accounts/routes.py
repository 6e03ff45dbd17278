"""Routes for operators: accounts and access. And what an account may see of itself."""

from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from api.accounts.access_models import (
    Key,
    KeyWithText,
    NewKey,
    NewPortalLink,
    NewUser,
    PortalLink,
    SessionDetails,
    SignInLink,
    UserChanges,
    UserDetails,
)
from api.accounts.models import (
    AccountChanges,
    AccountDetails,
    AccountWithKey,
    AuditLogEntry,
    NewAccount,
    Notification,
    OwnAccount,
    UnknownAccountDetails,
    notification_of,
)
from api.auth import AnyMember, MayReadWebhooks, Operator
from api.paging import CursorQuery, Limit, cursor_of
from api.services import services_of
from api.shared_models import Id, Moment, Page, SearchText, to_response_page
from api.strict_route import StrictRoute
from api.visibility import visible
from streams.core.accounts.audit import AuditFilter

router = APIRouter(route_class=StrictRoute)
ActorFilter = Annotated[SearchText | None, Query(description="Only of this actor, such as `user:…` or `key:…`.")]
ActionFilter = Annotated[SearchText | None, Query(description="Only this action, such as `webhook.paused`.")]
ObjectFilter = Annotated[SearchText | None, Query(alias="objectId", description="Only on the object with this id.")]


async def _entries(
    actor: ActorFilter = None,
    action: ActionFilter = None,
    object_id: ObjectFilter = None,
    since: Annotated[Moment | None, Query(description="Only entries from then on.")] = None,
    until: Annotated[Moment | None, Query(description="Only entries before.")] = None,
) -> AuditFilter:
    return AuditFilter(None, actor, action, object_id, since, until)


AuditQuery = Annotated[AuditFilter, Depends(_entries)]
OPERATOR_TAGS: list[str | Enum] = ["Accounts (operators)"]


@router.post(
    "/v1/accounts", status_code=201, tags=OPERATOR_TAGS, summary="Open an account", operation_id="createAccount"
)
async def open_account(body: NewAccount, caller: Operator, request: Request) -> AccountWithKey:
    """The response has a first API key with every scope, which is shown only once."""
    new_account = await services_of(request).accounts.open(body.name, body.emails, body.plan_limit, actor=caller.actor)
    return AccountWithKey.of(new_account.account, new_account)


@router.get("/v1/accounts", tags=OPERATOR_TAGS, summary="List accounts", operation_id="listAccounts")
async def list_accounts(
    caller: Operator, request: Request, limit: Limit = 50, cursor: CursorQuery = None
) -> Page[AccountDetails]:
    """Newest first."""
    page = await services_of(request).accounts.page(cursor_of(cursor), limit)
    return to_response_page(page, AccountDetails.of)


@router.get(
    "/v1/unknown-accounts",
    tags=OPERATOR_TAGS,
    summary="List accounts that do not exist",
    operation_id="listUnknownAccounts",
)
async def list_unknown_accounts(caller: Operator, request: Request, limit: Limit = 50) -> list[UnknownAccountDetails]:
    """Accounts that events name but that do not exist: at most 100, the ones with the newest events first."""
    unknown_accounts = await services_of(request).platform.unknown_accounts(limit)
    return [UnknownAccountDetails.of(account, account=account.account_id) for account in unknown_accounts]


@router.get("/v1/accounts/{account_id}", tags=OPERATOR_TAGS, summary="Show an account", operation_id="getAccount")
async def show_account(account_id: Id, caller: Operator, request: Request) -> AccountDetails:
    """Name, notification addresses and plan."""
    return AccountDetails.of(await services_of(request).accounts.find(account_id))


@router.patch(
    "/v1/accounts/{account_id}", tags=OPERATOR_TAGS, summary="Change an account", operation_id="updateAccount"
)
async def change_account(account_id: Id, body: AccountChanges, caller: Operator, request: Request) -> AccountDetails:
    """Omitted fields do not change. `planLimit: null` means no limit."""
    account = await services_of(request).accounts.change(account_id, body.given(), actor=caller.actor)
    return AccountDetails.of(account)


@router.post(
    "/v1/accounts/{account_id}/keys",
    status_code=201,
    tags=OPERATOR_TAGS,
    summary="Make an API key",
    operation_id="createApiKey",
)
async def add_key(account_id: Id, body: NewKey, caller: Operator, request: Request) -> KeyWithText:
    """The key is shown only once; its hash is stored."""
    new_key = await services_of(request).access.add_key(
        account_id, body.name, body.scopes, body.expires_at, actor=caller.actor
    )
    return KeyWithText.of(new_key.key, new_key)


@router.get("/v1/accounts/{account_id}/keys", tags=OPERATOR_TAGS, summary="List API keys", operation_id="listApiKeys")
async def list_keys(account_id: Id, caller: Operator, request: Request) -> list[Key]:
    """Each with its first characters, and when it was last used, to the minute."""
    return [Key.of(key) for key in await services_of(request).access.keys(account_id)]


@router.delete(
    "/v1/accounts/{account_id}/keys/{key_id}",
    status_code=204,
    tags=OPERATOR_TAGS,
    summary="Revoke an API key",
    operation_id="revokeApiKey",
)
async def revoke_key(account_id: Id, key_id: Id, caller: Operator, request: Request) -> None:
    """At once and forever."""
    await services_of(request).access.revoke_key(account_id, key_id, actor=caller.actor)


@router.post(
    "/v1/accounts/{account_id}/users",
    status_code=201,
    tags=OPERATOR_TAGS,
    summary="Let somebody sign in",
    operation_id="addUser",
)
async def add_user(account_id: Id, body: NewUser, caller: Operator, request: Request) -> UserDetails:
    """A user who exists already does not change."""
    access = services_of(request).access
    return UserDetails.of(await access.add_user(account_id, body.email, body.role, actor=caller.actor))


@router.get(
    "/v1/accounts/{account_id}/users", tags=OPERATOR_TAGS, summary="List who may sign in", operation_id="listUsers"
)
async def list_users(account_id: Id, caller: Operator, request: Request) -> list[UserDetails]:
    """Oldest first."""
    return [UserDetails.of(user) for user in await services_of(request).access.users(account_id)]


@router.delete(
    "/v1/accounts/{account_id}/users/{user_id}",
    status_code=204,
    tags=OPERATOR_TAGS,
    summary="Remove a user",
    operation_id="removeUser",
)
async def remove_user(account_id: Id, user_id: Id, caller: Operator, request: Request) -> None:
    """Sign-in links of the user end too."""
    await services_of(request).access.remove_user(account_id, user_id, actor=caller.actor)


@router.patch(
    "/v1/accounts/{account_id}/users/{user_id}",
    tags=OPERATOR_TAGS,
    summary="Change a user's role",
    operation_id="updateUser",
)
async def change_user(
    account_id: Id, user_id: Id, body: UserChanges, caller: Operator, request: Request
) -> UserDetails:
    """At once, in every browser in which the user is signed in."""
    access = services_of(request).access
    return UserDetails.of(await access.change_role(account_id, user_id, body.role, actor=caller.actor))


@router.post(
    "/v1/accounts/{account_id}/users/{user_id}/sign-in-links",
    status_code=201,
    tags=OPERATOR_TAGS,
    summary="Make a link that signs a user in once",
    operation_id="createSignInLink",
)
async def make_sign_in_link(account_id: Id, user_id: Id, caller: Operator, request: Request) -> SignInLink:
    """For a platform that signs its own users in. Valid for 15 minutes; its page asks for the press of a button."""
    link = await services_of(request).sign_in.create_user_link(account_id, user_id, actor=caller.actor)
    return SignInLink.of(link)


@router.post(
    "/v1/operators/sign-in-links",
    status_code=201,
    tags=OPERATOR_TAGS,
    summary="Make a link that signs an operator in once",
    operation_id="createOperatorSignInLink",
)
async def make_operator_sign_in_link(caller: Operator, request: Request) -> SignInLink:
    """It opens the operator's pages, and from there each account. Valid for 15 minutes."""
    return SignInLink.of(await services_of(request).sign_in.create_operator_link(actor=caller.actor))


@router.post(
    "/v1/accounts/{account_id}/portal-links",
    status_code=201,
    tags=OPERATOR_TAGS,
    summary="Make a link to the account's dashboard",
    operation_id="createPortalLink",
)
async def make_portal_link(
    account_id: Id, caller: Operator, request: Request, body: NewPortalLink | None = None
) -> PortalLink:
    """For one browser, once, without a mail: the platform's own page links to it or embeds it in a frame."""
    new_link = body or NewPortalLink()
    link = await services_of(request).sign_in.create_portal_link(
        account_id, new_link.role, timedelta(minutes=new_link.minutes), new_link.return_url, actor=caller.actor
    )
    return PortalLink.of(link)


@router.get(
    "/v1/accounts/{account_id}/sessions",
    tags=OPERATOR_TAGS,
    summary="List who is signed in",
    operation_id="listSignedInUsers",
)
async def list_sessions(account_id: Id, caller: Operator, request: Request) -> list[SessionDetails]:
    """Newest first, 200 at most. When one ends, an older one is listed."""
    await services_of(request).accounts.find(account_id)
    return [SessionDetails.of(session) for session in await services_of(request).sessions.list(account_id)]


@router.delete(
    "/v1/accounts/{account_id}/sessions/{session_id}",
    status_code=204,
    tags=OPERATOR_TAGS,
    summary="End a session",
    operation_id="endSignIn",
)
async def revoke_session(account_id: Id, session_id: Id, caller: Operator, request: Request) -> None:
    """At once: the browser has to sign in again."""
    await services_of(request).sessions.revoke(account_id, session_id, actor=caller.actor)


@router.get(
    "/v1/audit", tags=OPERATOR_TAGS, summary="Who did what, in all accounts", operation_id="listAuditLogOfAllAccounts"
)
async def audit(
    caller: Operator,
    request: Request,
    audit_query: AuditQuery,
    account_id: Annotated[Id | None, Query(alias="accountId", description="Only in this account.")] = None,
    limit: Limit = 50,
    cursor: CursorQuery = None,
) -> Page[AuditLogEntry]:
    """Newest first."""
    audit_query = replace(audit_query, account_id=account_id)
    page = await services_of(request).audit.list(audit_query, cursor_of(cursor), limit)
    return to_response_page(page, AuditLogEntry.of)


# -- what an account sees of itself ----------------------------------------------------------------------------


@router.get("/v1/account", tags=["Account"], summary="Show the account of this key", operation_id="getOwnAccount")
async def show_own_account(caller: AnyMember, request: Request) -> OwnAccount:
    """Id, name and plan; a key needs no scope for it."""
    return OwnAccount.of(await services_of(request).accounts.find(caller.own_account_id))


@router.get("/v1/account/audit", tags=["Account"], summary="Who did what", operation_id="listAuditLog")
async def own_audit(
    caller: MayReadWebhooks, request: Request, audit_query: AuditQuery, limit: Limit = 50, cursor: CursorQuery = None
) -> Page[AuditLogEntry]:
    """Of this account, newest first."""
    audit_query = replace(audit_query, account_id=caller.own_account_id)
    page = visible(await services_of(request).audit.list(audit_query, cursor_of(cursor), limit), caller.permissions)
    return to_response_page(page, AuditLogEntry.of)


@router.get("/v1/notifications", tags=["Account"], summary="List the mails to this account", operation_id="listMails")
async def notifications(
    caller: MayReadWebhooks, request: Request, limit: Limit = 50, cursor: CursorQuery = None
) -> Page[Notification]:
    """Owed, sent or given up, newest first."""
    page = await services_of(request).mails.page(caller.own_account_id, cursor_of(cursor), limit)
    return to_response_page(page, notification_of)
