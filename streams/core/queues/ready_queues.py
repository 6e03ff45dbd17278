"""The endpoint queues of a class with a waiter that may go, in turns between accounts."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from typing import Generic

from streams.core.queues.endpoint_queue import EndpointQueue, Waiter


class ReadyQueues(Generic[Waiter]):
    """The account with the fewest requests in flight goes first, and its queues take turns.

    So an account with fewer in flight never waits for more than one attempt by another account. An account that waits
    alone may use the whole share of the class. `in_flight` is how many requests of any class each account has; while an
    account's number changes, it leaves the turns. `by_account` has the queues; it is empty most of the time.
    """

    def __init__(self, in_flight: Mapping[str, int]) -> None:
        self.by_account: dict[str, OrderedDict[str, EndpointQueue[Waiter]]] = {}
        # The accounts with queues here, by their requests; in each entry the one whose turn is next comes first.
        self._turns: dict[int, OrderedDict[str, None]] = {}
        self._in_flight = in_flight

    def __bool__(self) -> bool:
        return bool(self.by_account)

    def __iter__(self) -> Iterator[EndpointQueue[Waiter]]:
        for queues in self.by_account.values():
            yield from queues.values()

    def add(self, queue: EndpointQueue[Waiter]) -> None:
        """Add a queue behind the others of its account. A queue that is here already keeps its turn."""
        queues = self.by_account.get(queue.account_id)
        if queues is None:
            queues = self.by_account[queue.account_id] = OrderedDict()
            self.enter(queue.account_id)
        queues.setdefault(queue.name, queue)

    def discard(self, queue: EndpointQueue[Waiter]) -> bool:
        """Remove a queue; false if it is not here."""
        queues = self.by_account.get(queue.account_id)
        if queues is None or queues.pop(queue.name, None) is None:
            return False
        self._leave_without_queues(queue.account_id)
        return True

    def next_account(self, kept_back: Set[str]) -> str | None:
        """The next account that is not kept back; None if there is none."""
        if not kept_back:
            return next(iter(self._turns[min(self._turns)])) if self._turns else None
        in_turn = (account_id for in_flight in sorted(self._turns) for account_id in self._turns[in_flight])
        return next((account_id for account_id in in_turn if account_id not in kept_back), None)

    def pop(self, account_id: str) -> EndpointQueue[Waiter]:
        """Remove and return the queue of an account whose turn it is; there must be one."""
        _, queue = self.by_account[account_id].popitem(last=False)
        self._leave_without_queues(account_id)
        return queue

    def leave(self, account_id: str) -> bool:
        """Take an account out of the rotation while its number of requests changes; false if the account has no queue
        here.
        """
        if account_id not in self.by_account:
            return False
        self._leave(account_id)
        return True

    def enter(self, account_id: str) -> None:
        """Put the account back into the rotation."""
        self._turns.setdefault(self._in_flight.get(account_id, 0), OrderedDict())[account_id] = None

    def _leave(self, account_id: str) -> None:
        in_flight = self._in_flight.get(account_id, 0)
        accounts = self._turns[in_flight]
        del accounts[account_id]
        if not accounts:
            del self._turns[in_flight]

    def _leave_without_queues(self, account_id: str) -> None:
        if not self.by_account[account_id]:
            del self.by_account[account_id]
            self._leave(account_id)
