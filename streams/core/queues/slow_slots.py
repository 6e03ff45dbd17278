"""Slots for requests that take more than a second, shared between accounts."""

from collections import Counter
from collections.abc import Mapping, Set
from typing import Generic

from streams.core.queues.endpoint_queue import EndpointQueue, Waiter


class SlowSlots(Generic[Waiter]):
    """A request that takes more than a second gives its slot back, and takes one of these.

    An account may have as many slots as stay free: half of them if it is alone, a third each with another account. So a
    later account always finds some. A request that finds none keeps its slot, and waits for one here.
    """

    def __init__(self, total: int) -> None:
        self.free_count = total
        # Slots in use, by account.
        self.by_account: Counter[str] = Counter()
        self._accounts: dict[Waiter, str] = {}
        # Requests that keep their slots, oldest first, and their queues.
        self._without: dict[Waiter, EndpointQueue[Waiter]] = {}

    @property
    def in_use(self) -> int:
        return len(self._accounts)

    def take(self, queue: EndpointQueue[Waiter], waiter: Waiter) -> bool:
        """Take a slot for a request. False if it has one, or if its account has its share: then it waits for one."""
        if waiter in self._accounts:
            return False
        if self.by_account[queue.account_id] >= self.free_count:
            self._without[waiter] = queue
            return False
        self._without.pop(waiter, None)
        self._accounts[waiter] = queue.account_id
        self.by_account[queue.account_id] += 1
        self.free_count -= 1
        return True

    def release(self, waiter: Waiter) -> bool:
        """Forget a request that has ended. True if it had a slot here, which is free now."""
        self._without.pop(waiter, None)
        if (account_id := self._accounts.pop(waiter, None)) is None:
            return False
        self.by_account[account_id] -= 1
        if not self.by_account[account_id]:
            del self.by_account[account_id]
        self.free_count += 1
        return True

    def take_next(self) -> EndpointQueue[Waiter] | None:
        """Give a free slot to the oldest waiting request whose account may have one. Returns its queue."""
        for waiter, queue in self._without.items():
            if self.by_account[queue.account_id] < self.free_count:
                self.take(queue, waiter)
                return queue
        return None

    def accounts_at_slow_limit(self, in_flight: Mapping[str, int]) -> Set[str]:
        """The accounts whose slow requests did not all get a slow slot, and whose requests are mostly slow.

        `in_flight` has all requests of each account, with slow slots too.
        """
        slow_counts = self.by_account + Counter(queue.account_id for queue in self._without.values())
        return {
            account_id
            for account_id, slow_count in slow_counts.items()
            if self.free_count <= in_flight[account_id] <= 2 * slow_count
        }
