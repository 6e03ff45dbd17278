"""Wait for the outcomes of tests, with one query for all of them."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streams.core.errors import Conflict
from streams.core.limits import MAX_WAITING_TESTS_PER_ACCOUNT, MAX_WAITING_TESTS_PER_WEBHOOK
from streams.core.webhooks.webhook import Webhook
from streams.ports.storage import DeliveryStore

POLL_INTERVAL_SECONDS = 0.05


class OutcomeWatch:
    """The waiting tests of this process. However many there are, they cost one query at a time."""

    def __init__(self, deliveries: DeliveryStore) -> None:
        self._deliveries = deliveries
        self._running_tests: Counter[tuple[str, str]] = Counter()
        self._futures: dict[str, asyncio.Future[None]] = {}
        self._poll_task: asyncio.Task[None] | None = None

    @contextmanager
    def reserve(self, webhook: Webhook) -> Iterator[None]:
        """Reserve a place for a waiting test. Raises `Conflict` if its webhook or account has none left."""
        limits = {
            ("this webhook", webhook.id): MAX_WAITING_TESTS_PER_WEBHOOK,
            ("this account", webhook.account_id): MAX_WAITING_TESTS_PER_ACCOUNT,
        }
        for (owner_kind, owner_id), limit in limits.items():
            if self._running_tests[owner_kind, owner_id] >= limit:
                raise Conflict(f"{owner_kind} already has {limit} tests in progress: wait for one of them")
        self._running_tests.update(limits.keys())
        try:
            yield
        finally:
            self._running_tests.subtract(limits.keys())
            # Forget owners without a test.
            self._running_tests += Counter()

    async def wait(self, delivery_id: str) -> None:
        """Return when a test has an outcome. Raises `Unavailable`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures[delivery_id] = future
        if self._poll_task is None:
            self._poll_task = asyncio.create_task(self._poll())
        try:
            await future
        finally:
            del self._futures[delivery_id]

    async def _poll(self) -> None:
        try:
            while self._futures:
                waiters = dict(self._futures)
                try:
                    ended_deliveries = await self._deliveries.with_outcome(tuple(waiters))
                except Exception as error:
                    _resolve_all(waiters.values(), error)
                else:
                    _resolve_all((waiters[delivery_id] for delivery_id in ended_deliveries), None)
                await asyncio.sleep(POLL_INTERVAL_SECONDS)
        finally:
            self._poll_task = None


def _resolve_all(futures: Iterable[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
