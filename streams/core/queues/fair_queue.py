"""A queue in which owners take turns, so that one with many items does not delay the others."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by owner. Each owner's items leave in order, and each turn of an owner is limited."""

    def __init__(self) -> None:
        # The owner whose turn is next comes first.
        self._queues: dict[str, deque[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def owner_count(self) -> int:
        """How many owners have items here."""
        return len(self._queues)

    def count_of(self, owner: str) -> int:
        return len(self._queues.get(owner, ()))

    def put(self, owner: str, item: Item) -> None:
        """Append an item to its owner's queue."""
        self._queues.setdefault(owner, deque()).append(item)

    def put_back(self, items: Sequence[tuple[str, Item]]) -> None:
        """Put items before the other items of their owners. Owners without items here get the last turns, in order."""
        for owner, _ in items:
            self._queues.setdefault(owner, deque())
        for owner, item in reversed(items):
            self._queues[owner].appendleft(item)

    def remove(self, owner: str, item: Item) -> None:
        """Remove an item if it is here."""
        queue = self._queues.get(owner, deque())
        if item in queue:
            queue.remove(item)
            if not queue:
                del self._queues[owner]

    def retain(self, is_kept: Callable[[Item], bool]) -> None:
        """Remove all items for which `is_kept` is false."""
        queues = {owner: deque(filter(is_kept, queue)) for owner, queue in self._queues.items()}
        self._queues = {owner: queue for owner, queue in queues.items() if queue}

    def take(self, limit: int, max_turn_cost: int, cost: Callable[[str], int]) -> list[Item]:
        """Take items until their costs reach `limit`, or no item is left.

        An item of an owner costs `cost(owner)`, 1 or more. An owner's turn ends when its costs reach `max_turn_cost`;
        owners have as many turns as fit. A single owner needs no turns.
        """
        items: list[Item] = []
        total_cost = 0
        while self._queues and total_cost < limit:
            owner = next(iter(self._queues))
            queue = self._queues.pop(owner)
            item_cost = cost(owner)
            turn_end = min(limit, total_cost + max_turn_cost) if self._queues else limit
            while queue and total_cost < turn_end:
                items.append(queue.popleft())
                total_cost += item_cost
            if queue:
                self._queues[owner] = queue
        return items

    def take_one(self, may_go: Callable[[str], bool]) -> tuple[str, Item] | None:
        """Take an item of the first owner that may go, which has the last turn then. None if no owner may go."""
        owner = next(filter(may_go, self._queues), None)
        if owner is None:
            return None
        queue = self._queues.pop(owner)
        item = queue.popleft()
        if queue:
            self._queues[owner] = queue
        return owner, item
