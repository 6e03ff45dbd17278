"""Note events whose account does not exist: Kafka acknowledged them, but nobody gets them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from streams.core.accounts.usage import UnknownAccount
from streams.core.events.event import Event
from streams.core.failed_work import WorkKind
from streams.core.ids import is_id
from streams.outage import DATABASE, Outages
from streams.ports.runtime import Telemetry
from streams.ports.storage import UnknownAccounts
from streams.stages.postponed_work import PostponedWork

RETRY_SECONDS = 1.0
LOG_INTERVAL_SECONDS = 60.0
# Ids of existing accounts in memory: 3 MB. Accounts are never deleted.
MAX_EXISTING_IDS = 20_000
# For one batch: a producer may name a new account in each event.
MAX_UNKNOWN_PER_BATCH = 100
MAX_LOGGED_ACCOUNTS = 5


class AccountCheck:
    """Compares the accounts of events with those in the database: one query for each batch with a new account.

    An unknown account is looked up again with its next event, because it may have been created meanwhile.
    """

    def __init__(
        self,
        accounts: UnknownAccounts,
        telemetry: Telemetry,
        outages: Outages,
        postponed_work: PostponedWork,
        now: Callable[[], float] = time.monotonic,
        *,
        max_existing_ids: int = MAX_EXISTING_IDS,
        max_unknown_per_batch: int = MAX_UNKNOWN_PER_BATCH,
    ) -> None:
        self._accounts = accounts
        self._telemetry = telemetry
        self._outages = outages
        self._postponed_work = postponed_work
        self._now = now
        self._max_existing_ids = max_existing_ids
        self._max_unknown_per_batch = max_unknown_per_batch
        self._existing_ids: set[str] = set()
        self._logged_at: float | None = None
        self._unlogged_count = 0

    async def record_unknown(self, events: Iterable[tuple[Event, datetime]]) -> None:
        """Note the unknown accounts of these events, each of which comes with the time of its record."""
        accounts_by_id = _by_account(
            (event.account_id, at) for event, at in events if event.account_id not in self._existing_ids
        )
        if not accounts_by_id:
            return
        existing = await self._outages.retry(
            lambda: self._accounts.find_existing(list(accounts_by_id)), RETRY_SECONDS, DATABASE
        )
        if len(self._existing_ids) + len(existing) > self._max_existing_ids:
            self._existing_ids.clear()
        self._existing_ids.update(list(existing)[: self._max_existing_ids])
        unknown_accounts = [value for value in accounts_by_id.values() if value.account_id not in existing]
        if unknown_accounts:
            newest_accounts = sorted(unknown_accounts, key=lambda value: value.last_at)[-self._max_unknown_per_batch :]
            async with self._postponed_work.unit(WorkKind.UNKNOWN_ACCOUNTS, "add"):
                await self._outages.retry(lambda: self._accounts.add(newest_accounts), RETRY_SECONDS, DATABASE)
            self._log_unknown(unknown_accounts)

    def _log_unknown(self, unknown_accounts: Sequence[UnknownAccount]) -> None:
        count = sum(account.events for account in unknown_accounts)
        self._telemetry.count("events_of_unknown_accounts_total", count)
        self._unlogged_count += count
        now = self._now()
        if self._logged_at is None or now - self._logged_at >= LOG_INTERVAL_SECONDS:
            self._telemetry.warning(
                "events_of_unknown_accounts",
                events=self._unlogged_count,
                accounts=", ".join(account.account_id for account in unknown_accounts[:MAX_LOGGED_ACCOUNTS]),
                effect="nobody gets them; scorm-webhooks accounts list --unknown",
            )
            self._logged_at, self._unlogged_count = now, 0


def _by_account(events: Iterable[tuple[str, datetime]]) -> Mapping[str, UnknownAccount]:
    """The figures to store for each account that does not exist. Events without a valid id are skipped as invalid."""
    accounts_by_id: dict[str, UnknownAccount] = {}
    for account_id, at in events:
        if account := accounts_by_id.get(account_id):
            accounts_by_id[account_id] = UnknownAccount(
                account_id, account.events + 1, min(account.first_at, at), max(account.last_at, at)
            )
        elif is_id(account_id):
            accounts_by_id[account_id] = UnknownAccount(account_id, 1, at, at)
    return accounts_by_id
