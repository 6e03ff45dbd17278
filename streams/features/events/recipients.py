"""Count the webhooks that want an event now, and refuse events of unknown accounts."""

import asyncio
import time
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.events.event import Event
from streams.core.webhooks.webhook import Webhook, wants
from streams.features.events.storage import SqlAccountWebhooks

# The count is a hint for people: the response waits no longer than this.
LOOKUP_TIMEOUT_SECONDS = 2.0
# No account is ever deleted; one that a restored database lacks is refused again after this time.
ACCOUNT_SECONDS = 600.0
MAX_REMEMBERED_ACCOUNTS = 10_000
# The comparison blocks the loop: with filters, this many take a few milliseconds.
COMPARISONS_PER_TURN = 1_000


class RecipientService:
    """Compares events with the webhooks of their accounts."""

    def __init__(self, webhooks: SqlAccountWebhooks, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._webhooks = webhooks
        self._existing_accounts: TTLCache[str, bool] = TTLCache(MAX_REMEMBERED_ACCOUNTS, ACCOUNT_SECONDS, monotonic)

    async def require_accounts(self, events: Sequence[Event], fields: Sequence[str]) -> None:
        """Raise `Invalid` for unknown accounts; `fields` names each event's account. Skipped without the database."""
        unchecked_ids = {event.account_id for event in events} - self._existing_accounts.keys()
        if not unchecked_ids:
            return
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                existing = await self._webhooks.existing_accounts(unchecked_ids)
        except (Unavailable, TimeoutError):
            return
        for account_id in existing:
            self._existing_accounts[account_id] = True
        if errors := [
            FieldError(field, f"there is no account {event.account_id}: create it first, or correct the id")
            for event, field in zip(events, fields, strict=True)
            if event.account_id in unchecked_ids and event.account_id not in existing
        ]:
            raise Invalid(*errors)

    async def count(self, events: Sequence[Event]) -> Sequence[int | None] | None:
        """The number of webhooks that want each event, including paused ones; None if the database does not respond.

        An event's number is None if its account has too many webhooks to compare.
        """
        accounts = {event.account_id for event in events}
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                webhooks_by_account = await self._webhooks.webhooks_taking(accounts, {event.type for event in events})
        except (Unavailable, TimeoutError):
            return None
        if webhooks_by_account is None:
            return [None] * len(events)
        return await _count_all(events, [webhooks_by_account.get(event.account_id, ()) for event in events])


async def _count_all(events: Sequence[Event], candidates: Sequence[Sequence[Webhook]]) -> Sequence[int]:
    counts: list[int] = []
    comparisons = 0
    for event, webhooks in zip(events, candidates, strict=True):
        comparisons += len(webhooks)
        if comparisons > COMPARISONS_PER_TURN:
            comparisons = 0
            await asyncio.sleep(0)
        counts.append(sum(wants(webhook, event) for webhook in webhooks))
    return counts
