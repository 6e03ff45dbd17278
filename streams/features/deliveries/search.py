"""Search deliveries for a page of the dashboard: rows, counts, and values to narrow the filter to."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from streams.core.accounts.account import DeliveryFilter, DeliverySummary
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.events.event_data import is_storable
from streams.core.page import Page
from streams.features.deliveries.search_rules import (
    MAX_COUNTED_DELIVERIES,
    MAX_LOOKUPS,
    MAX_SAMPLED_DELIVERIES,
    IdKind,
    LastAttempt,
)
from streams.features.deliveries.search_storage import SqlDeliverySearch
from streams.ports.storage import DeliveryStore


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page of deliveries with their last attempts, and how many match: at least this many if `is_capped`."""

    page: Page[DeliveryState]
    last_attempts: Mapping[str, LastAttempt]
    count: int
    is_capped: bool


@dataclass(frozen=True, slots=True)
class Facets:
    """How many deliveries have each value: all, or the newest `sample` of them.

    Each count ignores the filter's own value of that field.
    """

    states: Mapping[str, int]
    event_types: Mapping[str, int]
    webhook_ids: Mapping[str, int]
    sample: int | None


@dataclass
class DeliverySearchService:
    """Finds an account's deliveries."""

    _deliveries: DeliveryStore
    _search: SqlDeliverySearch

    async def search(self, delivery_filter: DeliveryFilter) -> SearchResult:
        """A page of the matches, newest first."""
        page, count = await asyncio.gather(
            self._deliveries.list(delivery_filter),
            self._search.count(replace(delivery_filter, after=None), _count_limit(delivery_filter)),
        )
        attempts = await self._search.last_attempts([row.delivery_id for row in page.rows])
        return SearchResult(page, attempts, count, count >= _count_limit(delivery_filter))

    async def last_attempts(self, rows: Sequence[DeliveryState]) -> Mapping[str, LastAttempt]:
        """The last attempt of each delivery, by delivery id."""
        return await self._search.last_attempts([row.delivery_id for row in rows])

    async def count(self, delivery_filter: DeliveryFilter) -> int:
        """How many match, up to `MAX_COUNTED_DELIVERIES`."""
        return await self._search.count(delivery_filter, MAX_COUNTED_DELIVERIES)

    async def summary(self, delivery_filter: DeliveryFilter) -> DeliverySummary:
        """How many match, up to `MAX_COUNTED_DELIVERIES`, across how many webhooks, and since when."""
        return await self._search.summary(delivery_filter, MAX_COUNTED_DELIVERIES)

    async def facets(self, delivery_filter: DeliveryFilter) -> Facets:
        """Values to narrow the filter to, from the newest matches of the filter without these three fields."""
        base_filter = replace(delivery_filter, state=None, event_type=None, webhook_id=None, after=None)
        states: Counter[str] = Counter()
        types: Counter[str] = Counter()
        webhooks: Counter[str] = Counter()
        total = 0
        sample = _sample_size(delivery_filter)
        for facet in await self._search.facets(base_filter, sample):
            total += facet.count
            is_of_state = delivery_filter.state in (None, facet.state)
            is_of_type = delivery_filter.event_type in (None, facet.event_type)
            is_of_webhook = delivery_filter.webhook_id in (None, facet.webhook_id)
            states[facet.state] += facet.count * (is_of_type and is_of_webhook)
            types[facet.event_type] += facet.count * (is_of_state and is_of_webhook)
            webhooks[facet.webhook_id] += facet.count * (is_of_state and is_of_type)
        return Facets(states, types, webhooks, sample if total >= sample else None)

    async def count_by_webhook(self, delivery_filter: DeliveryFilter) -> Mapping[str, int | None]:
        """The webhooks of the newest matches, most matches first. A count is None if there are more."""
        counts: Counter[str] = Counter()
        for facet in await self._search.facets(delivery_filter, MAX_SAMPLED_DELIVERIES):
            counts[facet.webhook_id] += facet.count
        is_complete = counts.total() < MAX_SAMPLED_DELIVERIES
        return {webhook_id: count if is_complete else None for webhook_id, count in counts.most_common()}

    async def kind_of(self, account_id: str, text: str) -> IdKind | None:
        """The kind of object that an id names: a delivery, an event, a session, a learner, a package or a dispatch of
        the account.
        """
        return await self._search.kind_of(account_id, text) if is_storable(text) else None


def _needs_lookup(delivery_filter: DeliveryFilter) -> bool:
    """Whether the matches are found by another table."""
    return (
        not delivery_filter.subjects.is_empty
        or delivery_filter.outcome is not None
        or delivery_filter.status_class is not None
    )


def _count_limit(delivery_filter: DeliveryFilter) -> int:
    """The number up to which to count."""
    return MAX_LOOKUPS if _needs_lookup(delivery_filter) else MAX_COUNTED_DELIVERIES


def _sample_size(delivery_filter: DeliveryFilter) -> int:
    return MAX_LOOKUPS if _needs_lookup(delivery_filter) else MAX_SAMPLED_DELIVERIES
