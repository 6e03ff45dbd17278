"""Wait for the outcomes of tests: one query asks for all of them."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streams.core.errors import Conflict
from streams.core.limits import MAX_WAITING_TESTS_PER_ACCOUNT, MAX_WAITING_TESTS_PER_WEBHOOK
from streams.core.webhook import Webhook
from streams.ports import DeliveryLog

ASK_EVERY_SECONDS = 0.05


class OutcomeWatch:
    """The tests of this process that wait. However many they are, they cost one query at a time."""

    def __init__(self, deliveries: DeliveryLog) -> None:
        self._deliveries = deliveries
        self._places: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, webhook: Webhook) -> Iterator[None]:
        """The place of a test among those that wait. Raises `Conflict` when its webhook or account has no more."""
        limits = {
            ("this webhook", webhook.id): MAX_WAITING_TESTS_PER_WEBHOOK,
            ("this account", webhook.account_id): MAX_WAITING_TESTS_PER_ACCOUNT,
        }
        for (whose, holder), limit in limits.items():
            if self._places[whose, holder] >= limit:
                raise Conflict(
                    f"{limit} tests of {whose} wait for their outcome, and no more may: wait for one of them"
                )
        self._places.update(limits.keys())
        try:
            yield
        finally:
            self._places.subtract(limits.keys())
            # Forget who has no test.
            self._places += Counter()

    async def wait(self, delivery_id: str) -> None:
        """Return when a test has an outcome. Raises `Unavailable`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[delivery_id] = future
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        try:
            await future
        finally:
            del self._waiting[delivery_id]

    async def _ask(self) -> None:
        try:
            while self._waiting:
                waiters = dict(self._waiting)
                try:
                    ended_deliveries = await self._deliveries.with_outcome(tuple(waiters))
                except Exception as error:
                    _settle(waiters.values(), error)
                else:
                    _settle((waiters[delivery_id] for delivery_id in ended_deliveries), None)
                await asyncio.sleep(ASK_EVERY_SECONDS)
        finally:
            self._asking = None


def _settle(futures: Iterable[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
