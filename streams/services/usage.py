"""Usage of an account: launches by month, package and dispatch, and the plan limit."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.usage import UsageDetail, UsageMonth, is_month, month_of
from streams.ports import Accounts, Clock, Usage

MOST_MONTHS = 120


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """The launches of the newest months, the present one first, and the plan limit of a month."""

    months: Sequence[UsageMonth]
    plan_limit: int | None


class UsageService:
    """Reads usage."""

    def __init__(self, accounts: Accounts, usage: Usage, clock: Clock) -> None:
        self._accounts = accounts
        self._usage = usage
        self._clock = clock

    async def summary(self, account_id: str, months: int = 12) -> UsageSummary:
        """Raises `NotFound`, `Invalid`."""
        if not 1 <= months <= MOST_MONTHS:
            raise Invalid(FieldError("months", f"must be from 1 to {MOST_MONTHS}"))
        account = await self._accounts.find(account_id)
        if account is None:
            raise NotFound(f"there is no account {account_id}")
        found = list(await self._usage.months(account_id, months))
        present = month_of(self._clock.now())
        if not any(one.month == present for one in found):
            found = [UsageMonth(present, 0), *found][:months]
        return UsageSummary(sorted(found, reverse=True), account.plan_limit)

    async def details(self, account_id: str, month: str) -> Sequence[UsageDetail]:
        """A month's launches by package and dispatch, the most first. Raises `Invalid`."""
        if not is_month(month):
            raise Invalid(FieldError("month", "must be a month such as 2026-04"))
        return await self._usage.details(account_id, month)
