"""Look up the newest generation of deliveries, many in one query. A delivery never waits for the database."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.adapters.batches import Batches
from streams.adapters.driver_queries import DRIVER_ERRORS, TIMEOUT_SECONDS, Queries, queries_of
from streams.core.errors import Unavailable
from streams.outage import DATABASE, Outages
from streams.ports.delivery import ReplayLookup

MAX_QUERY_IDS = 1000
# After a failure there is one query per interval, until one succeeds. Retries that come due meanwhile are sent, even if
# a replay sent them.
RETRY_PAUSE_SECONDS = 5.0


class Table(Protocol):
    """The table of deliveries."""

    async def find(self, ids: Sequence[str]) -> Mapping[str, int]:
        """The generation of each stored delivery. Raises the driver's error."""


class SqlReplayLookup:
    """A `ReplayLookup` that fails open: without a response the retry is sent."""

    def __init__(self, table: Table, outages: Outages, *, retry_pause_seconds: float = RETRY_PAUSE_SECONDS) -> None:
        self._table = table
        self._retry_pause_seconds = retry_pause_seconds
        self._batches = Batches(self._find, MAX_QUERY_IDS)
        self._probe_task: asyncio.Task[None] | None = None
        self._database = outages[DATABASE]

    async def newest_generation(self, delivery_id: str) -> int | None:
        return await self._batches.submit(delivery_id) if self._probe_task is None else None

    async def _find(self, ids: Sequence[str]) -> Sequence[int | None]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                rows = await self._table.find(ids)
        except (TimeoutError, Unavailable, *DRIVER_ERRORS) as error:
            self._database.begin(self, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            self._probe_task = self._probe_task or asyncio.create_task(self._probe())
            return [None] * len(ids)
        self._database.end(self)
        return [rows.get(delivery_id) for delivery_id in ids]

    async def _probe(self) -> None:
        """Query regularly until the database responds, so that the end is noticed even if no retry is due."""
        try:
            while self in self._database:
                await asyncio.sleep(self._retry_pause_seconds)
                await self._find([])
        finally:
            self._probe_task = None


class DriverTable:
    """The table of deliveries, read by the driver."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def find(self, ids: Sequence[str]) -> Mapping[str, int]:
        among, parameter = self._queries.in_condition("id", ids)
        return dict(await self._queries.rows(f"SELECT id, generation FROM deliveries WHERE {among}", [parameter]))


def replay_lookup(url: str, outages: Outages, behind_pooler: bool = False) -> ReplayLookup:
    """The look-up in the database at `url`, a `DATABASE_URL`. Raises `Misconfigured`."""
    return SqlReplayLookup(DriverTable(queries_of(url, behind_pooler)), outages)
