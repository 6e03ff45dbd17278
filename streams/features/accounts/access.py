"""API keys and users of accounts; authentication."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from hmac import compare_digest

from cachetools import LRUCache, TTLCache

from streams.core.accounts.access import (
    ACCOUNT_HEADER,
    ALL_ACCOUNTS,
    ALL_SCOPES,
    LOCAL_ACTOR,
    OPERATOR,
    ApiKey,
    Caller,
    NewKey,
    Role,
    Scope,
    digest,
    make_key,
    parse_operator_keys,
    scope_errors,
)
from streams.core.accounts.account import User
from streams.core.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from streams.core.times import format_time
from streams.features.shared.accounts import SqlAccounts, SqlApiKeys, SqlUsers
from streams.features.shared.audit_trail import new_entry
from streams.features.shared.emails import email_errors, normalize_email
from streams.features.shared.names import name_errors
from streams.ids import new_id
from streams.ports.runtime import Clock

MAX_KEY_LIFETIME = timedelta(days=36_525)
# A key that another process revokes still works for at most this long.
KEY_CACHE_SECONDS = 1.0
# The use of a key is stored at most this often.
USE_UPDATE_INTERVAL = timedelta(minutes=1)
# A database outage does not block events: this many keys are remembered without it, for this long.
OFFLINE_KEY_SECONDS = 300.0
MAX_REMEMBERED_KEYS = 10_000


class AccessService:
    """`operator_keys` are the values of the setting; `new_token` makes a random text.

    `is_local_key` knows the key of the commands on this machine.
    """

    def __init__(
        self,
        accounts: SqlAccounts,
        keys: SqlApiKeys,
        users: SqlUsers,
        clock: Clock,
        new_token: Callable[[], str],
        operator_keys: Sequence[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
        is_local_key: Callable[[str], bool] = lambda token: False,
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._users = users
        self._clock = clock
        self._new_token = new_token
        self._operators = parse_operator_keys(operator_keys)
        self._key_cache: TTLCache[str, ApiKey] = TTLCache(MAX_REMEMBERED_KEYS, KEY_CACHE_SECONDS, monotonic)
        self._recent_keys: TTLCache[str, ApiKey] = TTLCache(MAX_REMEMBERED_KEYS, OFFLINE_KEY_SECONDS, monotonic)
        self._use_updates: dict[str, asyncio.Task[None]] = {}
        self._is_local_key = is_local_key
        # Accounts are never deleted.
        self._known_accounts: LRUCache[str, bool] = LRUCache(MAX_REMEMBERED_KEYS)

    async def caller(
        self,
        token: str,
        account_id: str | None = None,
        work: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> Caller:
        """The caller with this key. Only an operator may pass `account_id`: an account's, or `ALL_ACCOUNTS`.

        The database is asked in a block of `work`. Raises `Unauthorized`, `Forbidden`, `NotFound`, and `Unavailable`
        for a key that was not used recently.
        """
        if operator := self._operator_actor(token):
            return await self._operator(operator, account_id, work)
        now = self._clock.now()
        key = await self._find_key(digest(token), now, work)
        if key is None or not key.is_valid(now):
            raise Unauthorized("the API key is unknown, revoked or expired")
        if account_id is not None:
            raise Forbidden(f"{ACCOUNT_HEADER}: only an operator's key acts for an account that the header names")
        return Caller(f"key:{key.id}", key.scopes, key.account_id)

    def _operator_actor(self, token: str) -> str | None:
        """The operator with this key, as an actor."""
        sha256 = digest(token)
        # Compare all keys, so that the time does not reveal which one matched.
        if operators := [operator for operator in self._operators if compare_digest(sha256, operator.sha256)]:
            return f"operator:{operators[0].name}"
        return LOCAL_ACTOR if self._is_local_key(token) else None

    async def _operator(
        self, actor: str, account_id: str | None, work: Callable[[], AbstractContextManager[None]]
    ) -> Caller:
        if account_id is None:
            return Caller(actor, frozenset({OPERATOR, Scope.EVENTS_WRITE, Scope.LEARNERS_ERASE}))
        permissions = ALL_SCOPES | {OPERATOR}
        if account_id == ALL_ACCOUNTS:
            return Caller(actor, permissions, is_for_all=True)
        if account_id not in self._known_accounts:
            with work():
                await self._accounts.require(account_id)
            self._known_accounts[account_id] = True
        return Caller(actor, permissions, account_id)

    def is_operator(self, actor: str) -> bool:
        """Whether this operator's key is still among the keys of the setting, or is the local one."""
        return actor in {LOCAL_ACTOR, *(f"operator:{operator.name}" for operator in self._operators)}

    async def _find_key(
        self, sha256: str, now: datetime, work: Callable[[], AbstractContextManager[None]]
    ) -> ApiKey | None:
        """The key as it was in the last second, or from the database; in an outage, from a few minutes ago."""
        if api_key := self._key_cache.get(sha256):
            return api_key
        try:
            with work():
                key = await self._keys.find(sha256)
        except Unavailable:
            if recent_key := self._recent_keys.get(sha256):
                return recent_key
            raise
        self._remember(sha256, key)
        if key and key.is_valid(now) and (key.last_used_at is None or now - key.last_used_at >= USE_UPDATE_INTERVAL):
            self._store_use(key.id, now)
        return key

    def _store_use(self, key_id: str, now: datetime) -> None:
        """Store the use of a key without waiting: no request needs it."""
        if key_id in self._use_updates or len(self._use_updates) >= MAX_REMEMBERED_KEYS:
            return

        async def store() -> None:
            try:
                with contextlib.suppress(Unavailable):
                    await self._keys.touch(key_id, now)
            finally:
                del self._use_updates[key_id]

        self._use_updates[key_id] = asyncio.create_task(store())

    def _remember(self, sha256: str, key: ApiKey | None) -> None:
        if key is None:
            self._recent_keys.pop(sha256, None)
        else:
            self._key_cache[sha256] = self._recent_keys[sha256] = key

    # -- keys ---------------------------------------------------------------------------------------------------

    async def add_key(
        self,
        account_id: str,
        name: str,
        scopes: Sequence[str],
        expires_at: datetime | None = None,
        *,
        actor: str,
        person: str | None = None,
    ) -> NewKey:
        """Add a key to an account, or to a person's terminal.

        Raises `Invalid`, `NotFound`, and `Conflict` if there are too many.
        """
        now = self._clock.now()
        errors = name_errors(name) + scope_errors(scopes)
        if expires_at is not None and not now < expires_at <= now + MAX_KEY_LIFETIME:
            errors.append(FieldError("expiresAt", "must be in the next 100 years, or absent for a key without an end"))
        if errors:
            raise Invalid(*errors)
        await self._accounts.require(account_id)
        allowed_scopes = frozenset(map(Scope, scopes))
        new_key = make_key(
            new_id("key"), account_id, name.strip(), self._new_token(), now, allowed_scopes, expires_at, person
        )
        key = new_key.key
        audit_entry = new_entry(
            self._clock,
            actor,
            "key.created",
            key.id,
            account_id,
            name=key.name,
            scopes=sorted(key.scopes),
            expires_at=expires_at and format_time(expires_at),
        )
        await self._keys.add(key, audit_entry)
        return new_key

    async def keys(self, account_id: str) -> Sequence[ApiKey]:
        """The active keys and the last that ended, oldest first. Raises `NotFound`."""
        await self._accounts.require(account_id)
        return await self._keys.list(account_id)

    async def revoke_key(self, account_id: str, key_id: str, *, actor: str, person: str | None = None) -> None:
        """Revoke a key at once; with `person`, only a key of this person's terminals. Raises `NotFound`."""
        audit_entry = new_entry(self._clock, actor, "key.revoked", key_id, account_id)
        if not await self._keys.revoke(account_id, key_id, audit_entry, person):
            raise NotFound(f"this account has no key {key_id}")
        self._forget(lambda key: key.id == key_id)

    async def remove_key(self, account_id: str, key_id: str, *, actor: str) -> None:
        """Delete a key that was revoked or has expired. Raises `NotFound`, and `Conflict` for an active key."""
        for key in await self._keys.list(account_id):
            if key.id == key_id and key.is_valid(self._clock.now()):
                raise Conflict(f"the key {key_id} is active: revoke it first")
        audit_entry = new_entry(self._clock, actor, "key.removed", key_id, account_id)
        if not await self._keys.remove(account_id, key_id, audit_entry):
            raise NotFound(f"this account has no key {key_id}")

    def _forget(self, is_ended: Callable[[ApiKey], bool]) -> None:
        """Forget keys that have ended, so that they do not work during an outage of the database."""
        for sha256 in [sha256 for sha256, key in self._recent_keys.items() if is_ended(key)]:
            self._recent_keys.pop(sha256, None)
            self._key_cache.pop(sha256, None)

    # -- users --------------------------------------------------------------------------------------------------

    async def add_user(self, account_id: str, email: str, role: Role = Role.OWNER, *, actor: str) -> User:
        """Add a user, who may sign in to the account's dashboard. Raises `Invalid`, `NotFound` and `Conflict`.

        A user who exists already does not change.
        """
        if errors := email_errors("email", [email]):
            raise Invalid(*errors)
        await self._accounts.require(account_id)
        user = User(new_id("usr"), account_id, normalize_email(email).lower(), self._clock.now(), role)
        audit_entry = new_entry(self._clock, actor, "user.added", user.id, account_id, email=user.email, role=role)
        return await self._users.add(user, audit_entry)

    async def change_role(self, account_id: str, user_id: str, role: Role, *, actor: str) -> User:
        """Change a user's role, at once. The user's terminals are disconnected. Raises `NotFound`."""
        audit_entry = new_entry(self._clock, actor, "user.role_changed", user_id, account_id, role=role)
        user = await self._users.change_role(account_id, user_id, role, audit_entry)
        if user is None:
            raise NotFound(f"this account has no user {user_id}")
        self._forget(lambda key: key.person == f"user:{user_id}")
        return user

    async def users(self, account_id: str) -> Sequence[User]:
        """The users of an account, oldest first. Raises `NotFound`."""
        await self._accounts.require(account_id)
        return await self._users.list(account_id)

    async def remove_user(self, account_id: str, user_id: str, *, actor: str) -> None:
        """Remove a user, and disconnect the user's terminals. Raises `NotFound`."""
        if not await self._users.remove(
            account_id, user_id, new_entry(self._clock, actor, "user.removed", user_id, account_id)
        ):
            raise NotFound(f"this account has no user {user_id}")
        self._forget(lambda key: key.person == f"user:{user_id}")
