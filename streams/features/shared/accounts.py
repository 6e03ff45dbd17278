"""Accounts, their API keys and their users in SQL."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.batches import Batches
from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.engine.database import Database, SqlStorage
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.keyset import read_page
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.accounts import accounts, api_keys, users
from streams.adapters.sql.webhooks.account_limits import require_row_limit
from streams.core.accounts.access import ApiKey, Role, Scope
from streams.core.accounts.account import Account, User
from streams.core.accounts.audit import AuditEntry
from streams.core.errors import NotFound
from streams.core.limits import (
    MAX_KEYS_LISTED,
    MAX_KEYS_PER_ACCOUNT,
    MAX_TERMINALS_PER_ACCOUNT,
    MAX_TERMINALS_PER_PERSON,
    MAX_USERS_PER_ACCOUNT,
)
from streams.core.page import Cursor, Page, json_bytes
from streams.core.queues.request_class import RequestClass

KEYS_PER_QUERY = 500
_TOO_MANY_KEYS_MESSAGE = "the account has {count} API keys, and may have at most {limit}: revoke one first"
_TOO_MANY_OWN_TERMINALS_MESSAGE = (
    "you have {count} connected terminals, and may have at most {limit}: disconnect one first"
)
_TOO_MANY_TERMINALS_MESSAGE = (
    "the account has {count} connected terminals, and may have at most {limit}: "
    "wait until one expires, or ask an owner to revoke one"
)
_TOO_MANY_USERS_MESSAGE = "the account has {count} users, and may have at most {limit}: remove one first"


class SqlAccounts(SqlStorage):
    """`Accounts` in SQL."""

    async def add(self, account: Account, key: ApiKey, audit_entry: AuditEntry | None = None) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(insert(accounts).values(_account_row(account)))
            await connection.execute(insert(api_keys).values(_key_row(key)))
            await write_entry(connection, audit_entry)

    async def find(self, account_id: str) -> Account | None:
        row = await self._database.row(select(accounts).where(accounts.c.id == account_id))
        return _account(row) if row else None

    async def require(self, account_id: str) -> Account:
        """Find an account. Raises `NotFound`."""
        return _require(await self.find(account_id), account_id)

    async def page(self, cursor: Cursor | None, limit: int) -> Page[Account]:
        """The accounts, newest first."""
        async with self._database.read_transaction() as connection:
            return await accounts_page(connection, cursor, limit)

    async def change(
        self,
        account_id: str,
        change: Callable[[Account], Account],
        audit: Callable[[Account, Account], AuditEntry] | None = None,
    ) -> Account:
        """Change an account. Returns the stored account. `audit` makes the entry of a change. Raises `NotFound`."""
        condition = accounts.c.id == account_id
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(accounts).where(condition).with_for_update())).one_or_none()
            previous = _require(_account(row) if row else None, account_id)
            updated = change(previous)
            if updated != previous:
                await connection.execute(update(accounts).where(condition).values(_account_row(updated)))
                await write_entry(connection, audit(previous, updated) if audit else None)
            return updated


def _require(account: Account | None, account_id: str) -> Account:
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    return account


async def accounts_page(
    connection: AsyncConnection, cursor: Cursor | None, limit: int, name: str | None = None
) -> Page[Account]:
    """The accounts, newest first; with `name`, those whose name or id contains it."""
    query, place = select(accounts), (accounts.c.created_at, accounts.c.id)
    if name:
        query = query.where(or_(accounts.c.name.icontains(name, autoescape=True), accounts.c.id == name))
    return await read_page(connection, query, *place, cursor, limit, _account, _response_bytes)


class SqlApiKeys:
    """`ApiKeys` in SQL.

    All look-ups share one connection, so that unknown callers cannot take the others. All updates of use share one too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._look_ups = Batches(self._find_all, KEYS_PER_QUERY, request_class=RequestClass.PUBLISH)
        self._uses = Batches(self._store_uses, KEYS_PER_QUERY, request_class=RequestClass.PEOPLE)

    async def add(self, key: ApiKey, audit_entry: AuditEntry) -> None:
        """Add a key. Raises `Conflict` if the account, or the person of a terminal, has too many active keys."""
        is_active = _is_active(key.created_at)
        limits = [(is_active, MAX_KEYS_PER_ACCOUNT, _TOO_MANY_KEYS_MESSAGE)]
        if key.person is not None:
            is_own, is_terminal = api_keys.c.person == key.person, api_keys.c.person.is_not(None)
            limits = [
                (is_active & is_own, MAX_TERMINALS_PER_PERSON, _TOO_MANY_OWN_TERMINALS_MESSAGE),
                (is_active & is_terminal, MAX_TERMINALS_PER_ACCOUNT, _TOO_MANY_TERMINALS_MESSAGE),
                *limits,
            ]
        async with self._database.transaction() as connection:
            for is_counted, limit, message in limits:
                await require_row_limit(connection, key.account_id, api_keys, is_counted, limit, message)
            await connection.execute(insert(api_keys).values(_key_row(key)))
            await write_entry(connection, audit_entry)

    async def list(self, account_id: str) -> Sequence[ApiKey]:
        """The active keys and the last that ended: at most `MAX_KEYS_LISTED`, oldest first."""
        ended_at = func.coalesce(api_keys.c.revoked_at, api_keys.c.expires_at)
        # Keys without an end, or with the latest end: so active keys come before ended ones.
        newest_first = (ended_at.is_(None).desc(), ended_at.desc(), api_keys.c.created_at.desc(), api_keys.c.id.desc())
        query = (
            select(api_keys).where(api_keys.c.account_id == account_id).order_by(*newest_first).limit(MAX_KEYS_LISTED)
        )
        rows = [_key(row) for row in await self._database.rows(query)]
        return sorted(rows, key=lambda key: (key.created_at, key.id))

    async def list_terminals(self, account_id: str, person: str, now: datetime) -> Sequence[ApiKey]:
        """The active keys of a person's terminals, oldest first."""
        is_own = (api_keys.c.account_id == account_id) & (api_keys.c.person == person)
        query = select(api_keys).where(is_own, _is_active(now)).order_by(api_keys.c.created_at, api_keys.c.id)
        return [_key(row) for row in await self._database.rows(query)]

    async def find(self, sha256: str) -> ApiKey | None:
        return await self._look_ups.submit(sha256)

    async def _find_all(self, hashes: Sequence[str]) -> Sequence[ApiKey | None]:
        query = select(api_keys).where(api_keys.c.sha256.in_(set(hashes)))
        rows = {row.sha256: _key(row) for row in await self._database.rows(query)}
        return [rows.get(sha256) for sha256 in hashes]

    async def revoke(self, account_id: str, key_id: str, audit_entry: AuditEntry, person: str | None = None) -> bool:
        """Revoke a key; with `person`, only of a terminal of this person. A second call changes nothing.

        False if there is no such key.
        """
        condition = (api_keys.c.id == key_id) & (api_keys.c.account_id == account_id)
        if person is not None:
            condition &= api_keys.c.person == person
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(api_keys).where(condition).with_for_update())).one_or_none()
            if row is not None and row.revoked_at is None:
                await connection.execute(update(api_keys).where(condition).values(revoked_at=audit_entry.at))
                await write_entry(connection, audit_entry)
            return row is not None

    async def remove(self, account_id: str, key_id: str, audit_entry: AuditEntry) -> bool:
        """Delete a key that has ended. False if the account has no such key, or if it is still active."""
        condition = (api_keys.c.id == key_id) & (api_keys.c.account_id == account_id) & ~_is_active(audit_entry.at)
        async with self._database.transaction() as connection:
            deleted = await connection.execute(delete(api_keys).where(condition).returning(api_keys.c.id))
            is_removed = deleted.first() is not None
            if is_removed:
                await write_entry(connection, audit_entry)
            return is_removed

    async def touch(self, key_id: str, at: datetime) -> None:
        await self._uses.submit((key_id, at))

    async def _store_uses(self, uses: Sequence[tuple[str, datetime]]) -> Sequence[None]:
        is_used = api_keys.c.id.in_({key_id for key_id, _ in uses})
        async with self._database.transaction() as connection:
            await connection.execute(update(api_keys).where(is_used).values(last_used_at=max(at for _, at in uses)))
        return [None] * len(uses)


class SqlUsers(SqlStorage):
    """`Users` in SQL."""

    async def add(self, user: User, audit_entry: AuditEntry) -> User:
        """Add a user. Returns the account's user with this e-mail address, who may have existed before.

        Raises `Conflict` if the account has `MAX_USERS_PER_ACCOUNT`.
        """
        statement = insert(users).values(asdict(user)).on_conflict_do_nothing().returning(users.c.id)
        columns = (users.c.account_id == user.account_id) & (users.c.email == user.email)
        async with self._database.transaction() as connection:
            if row := (await connection.execute(select(users).where(columns))).one_or_none():
                return _user(row)
            # The same request at the same moment does not add a second user.
            is_other = users.c.email != user.email
            await require_row_limit(
                connection, user.account_id, users, is_other, MAX_USERS_PER_ACCOUNT, _TOO_MANY_USERS_MESSAGE
            )
            if (await connection.execute(statement)).first() is not None:
                await write_entry(connection, audit_entry)
            return _user((await connection.execute(select(users).where(columns))).one())

    async def list(self, account_id: str) -> Sequence[User]:
        query = select(users).where(users.c.account_id == account_id).order_by(users.c.created_at, users.c.id)
        return [_user(row) for row in await self._database.rows(query)]

    async def remove(self, account_id: str, user_id: str, audit_entry: AuditEntry) -> bool:
        condition = (users.c.id == user_id) & (users.c.account_id == account_id)
        async with self._database.transaction() as connection:
            is_removed = (
                await connection.execute(delete(users).where(condition).returning(users.c.id))
            ).first() is not None
            if is_removed:
                await _revoke_terminals(connection, account_id, user_id, audit_entry.at)
                await write_entry(connection, audit_entry)
            return is_removed

    async def find(self, user_id: str) -> User | None:
        row = await self._database.row(select(users).where(users.c.id == user_id))
        return _user(row) if row else None

    async def find_by_email(self, email: str) -> Sequence[User]:
        """The users with this address in any account, oldest first."""
        query = select(users).where(users.c.email == email).order_by(users.c.created_at, users.c.id)
        return [_user(row) for row in await self._database.rows(query)]

    async def change_role(self, account_id: str, user_id: str, role: Role, audit_entry: AuditEntry) -> User | None:
        """Returns the changed user; None if the account has no such user.

        Sessions have the new role at once, and the keys of the user's terminals end.
        """
        condition = (users.c.id == user_id) & (users.c.account_id == account_id)
        async with self._database.transaction() as connection:
            statement = update(users).where(condition).values(role=role).returning(users)
            row = (await connection.execute(statement)).one_or_none()
            if row is not None:
                await _revoke_terminals(connection, account_id, user_id, audit_entry.at)
                await write_entry(connection, audit_entry)
            return _user(row) if row else None


async def _revoke_terminals(connection: AsyncConnection, account_id: str, user_id: str, at: datetime) -> None:
    """Revoke the keys of a user's terminals: they allow what the user was allowed to do."""
    is_own = (api_keys.c.account_id == account_id) & (api_keys.c.person == f"user:{user_id}")
    await connection.execute(update(api_keys).where(is_own, _is_active(at)).values(revoked_at=at))


def _is_active(now: datetime) -> ColumnElement[bool]:
    return api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))


def _user(row: Any) -> User:
    return User(row.id, row.account_id, row.email, row.created_at, Role(row.role))


def _account_row(account: Account) -> dict[str, Any]:
    return {**asdict(account), "emails": list(account.emails), "muted_mails": list(account.muted_mails)}


def _account(row: Any) -> Account:
    return to_value(Account, row, emails=tuple(row.emails), muted_mails=tuple(row.muted_mails))


def _response_bytes(account: Account) -> int:
    return 400 + json_bytes((account.name, account.emails))


def _key_row(key: ApiKey) -> dict[str, Any]:
    return {**asdict(key), "scopes": sorted(key.scopes)}


def _key(row: Any) -> ApiKey:
    return to_value(ApiKey, row, scopes=frozenset(map(Scope, row.scopes)))
