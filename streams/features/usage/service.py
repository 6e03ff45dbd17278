"""Usage of an account: launches by month, package and dispatch, and the plan limit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from streams.core.accounts.usage import UsageCursor, UsageDetail, UsageMonth, is_month, month_of
from streams.core.errors import FieldError, Invalid
from streams.features.shared.accounts import SqlAccounts
from streams.features.usage.storage import SqlUsage
from streams.ports.runtime import Clock

MAX_MONTHS = 120
ROWS_PER_READ = 5_000


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """The launches of the newest months, of the current month, and the plan limit of a month.

    An event of a producer whose clock is ahead may belong to the next month.
    """

    months: Sequence[UsageMonth]
    current_month: UsageMonth
    plan_limit: int | None
    state_bytes: int
    max_state_bytes: int


@dataclass(frozen=True, slots=True)
class UsagePage:
    """A part of a month, and where the next part begins; None on the last page."""

    rows: Sequence[UsageDetail]
    next_place: UsageCursor | None


@dataclass
class UsageService:
    """Reads usage. `_state_bytes` is the size of all players' states of an account, `_max_state_bytes` the limit."""

    _accounts: SqlAccounts
    _usage: SqlUsage
    _clock: Clock
    _state_bytes: Callable[[str], Awaitable[int]]
    _max_state_bytes: int

    async def summary(self, account_id: str, months: int = 12) -> UsageSummary:
        """The usage of an account. Raises `NotFound` and `Invalid`."""
        if not 1 <= months <= MAX_MONTHS:
            raise Invalid(FieldError("months", f"must be from 1 to {MAX_MONTHS}"))
        account = await self._accounts.require(account_id)
        usage_by_month = {usage.month: usage for usage in await self._usage.months(account_id, months)}
        this_month = month_of(self._clock.now())
        current_month = usage_by_month.setdefault(this_month, UsageMonth(this_month, 0))
        newest_months = sorted(usage_by_month.values(), reverse=True)[:months]
        state_bytes = await self._state_bytes(account_id)
        return UsageSummary(newest_months, current_month, account.plan_limit, state_bytes, self._max_state_bytes)

    async def details(self, account_id: str, month: str, place: UsageCursor | None, limit: int) -> UsagePage:
        """A page of a month's launches by package and dispatch. Raises `Invalid`."""
        rows = await self._usage.details(account_id, _check_month(month), place, limit + 1)
        last_row = rows[limit - 1] if len(rows) > limit else None
        return UsagePage(
            rows[:limit], UsageCursor(last_row.package_id or "", last_row.dispatch_id or "") if last_row else None
        )

    async def all_details(self, account_id: str, month: str) -> AsyncIterator[UsageDetail]:
        """All details of a month, read in pages. Raises `Invalid`."""
        place: UsageCursor | None = None
        while True:
            page = await self.details(account_id, month, place, ROWS_PER_READ)
            for row in page.rows:
                yield row
            if (place := page.next_place) is None:
                return

    async def largest(self, account_id: str, month: str, limit: int) -> Sequence[UsageDetail]:
        """The packages and dispatches with the most launches in a month. Raises `Invalid`."""
        return await self._usage.largest(account_id, _check_month(month), limit)


def _check_month(month: str) -> str:
    if not is_month(month):
        raise Invalid(FieldError("month", "must be a month such as 2026-04"))
    return month
