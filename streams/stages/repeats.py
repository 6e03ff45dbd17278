"""Drop a delivery's record that was already attended to by this process."""

from collections import OrderedDict

from streams.core.delivery import Delivery


class Repeats:
    """The newest acknowledged (delivery, generation, step); forgetting one costs a repeat, never a loss."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    def __contains__(self, delivery: Delivery) -> bool:
        return _identity(delivery) in self._known

    def add(self, delivery: Delivery) -> None:
        self._known[_identity(delivery)] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _identity(delivery: Delivery) -> tuple[str, int, int]:
    return delivery.id, delivery.generation, delivery.step
