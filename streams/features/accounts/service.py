"""Create and change accounts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from streams.core.accounts.access import make_key
from streams.core.accounts.account import Account
from streams.core.accounts.audit import AuditEntry
from streams.core.errors import FieldError, Invalid
from streams.core.limits import MAX_PLAN_LIMIT
from streams.core.page import Cursor, Page
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_trail import differences, new_entry
from streams.features.shared.emails import email_errors, normalize_email
from streams.features.shared.names import name_errors
from streams.ids import new_id
from streams.ports.runtime import Clock


@dataclass(frozen=True, slots=True)
class OpenedAccount:
    """A new account; `api_key` is shown once and stored only as its hash."""

    account: Account
    api_key: str = field(repr=False)


@dataclass
class AccountService:
    """`_new_token` makes a random text; `_check_limit` sends the notices of a changed plan limit."""

    _accounts: SqlAccounts
    _check_limit: Callable[[str, int | None, datetime], Awaitable[None]]
    _clock: Clock
    _new_token: Callable[[], str]

    async def open(
        self, name: str, emails: Sequence[str] = (), plan_limit: int | None = None, *, actor: str
    ) -> OpenedAccount:
        """Create an account with a first key, which has every scope. Raises `Invalid`."""
        now = self._clock.now()
        account = Account(new_id("acc"), name.strip(), tuple(emails), now, plan_limit)
        account = _check_account(account)
        first_key = make_key(new_id("key"), account.id, "first key", self._new_token(), now)
        await self._accounts.add(
            account, first_key.key, new_entry(self._clock, actor, "account.opened", account.id, account.id)
        )
        return OpenedAccount(account, first_key.api_key)

    async def page(self, cursor: Cursor | None, limit: int) -> Page[Account]:
        """The accounts, newest first."""
        return await self._accounts.page(cursor, limit)

    async def find(self, account_id: str) -> Account:
        """Find an account. Raises `NotFound`."""
        return await self._accounts.require(account_id)

    async def change(self, account_id: str, changes: Mapping[str, Any], *, actor: str) -> Account:
        """Set some fields of an account. Raises `Invalid` and `NotFound`."""

        def apply_changes(account: Account) -> Account:
            updated = replace(account, **changes)
            muted_mails, emails = tuple(dict.fromkeys(updated.muted_mails)), tuple(updated.emails)
            updated = replace(updated, name=updated.name.strip(), emails=emails, muted_mails=muted_mails)
            return _check_account(updated)

        def audit(previous: Account, updated: Account) -> AuditEntry:
            changed_values = differences(asdict(previous), asdict(updated))
            return new_entry(self._clock, actor, "account.changed", account_id, account_id, changes=changed_values)

        account = await self._accounts.change(account_id, apply_changes, audit)
        if "plan_limit" in changes:
            # If the process dies before this, the next launch sends the notices.
            await self._check_limit(account_id, account.plan_limit, self._clock.now())
        return account


def _check_account(account: Account) -> Account:
    """The account as it is stored. Raises `Invalid`."""
    if errors := account_errors(account):
        raise Invalid(*errors)
    return replace(account, emails=tuple(map(normalize_email, account.emails)))


def account_errors(account: Account) -> list[FieldError]:
    """What is wrong with an account, one error for each field."""
    errors = name_errors(account.name) + email_errors("emails", account.emails)
    if account.plan_limit is not None and not 1 <= account.plan_limit <= MAX_PLAN_LIMIT:
        errors.append(FieldError("planLimit", f"must be from 1 to {MAX_PLAN_LIMIT}, or absent for no limit"))
    return errors
