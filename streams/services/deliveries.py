"""Look up deliveries, send them again, discard dead ones."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from streams.core.account import DeliveryFilter, DeliverySeen
from streams.core.delivery import State, Trigger
from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.standing import Standing, Tally
from streams.ports import DeliveryLog, Replays

AT_ONCE = 500


class DeliveryService:
    """What people see of deliveries, and do with them."""

    def __init__(self, log: DeliveryLog, replays: Replays) -> None:
        self._log = log
        self._replays = replays

    async def list(self, wanted: DeliveryFilter) -> Sequence[Standing]:
        return await self._log.list(wanted)

    async def find(self, delivery_id: str) -> DeliverySeen:
        """Raises `NotFound`."""
        seen = await self._log.find(delivery_id)
        if seen is None:
            raise NotFound(f"there is no delivery {delivery_id}")
        return seen

    async def tally(self) -> Mapping[str, Sequence[Tally]]:
        """How many deliveries stand where, by webhook id."""
        return await self._log.tally()

    async def retry(self, delivery_id: str) -> Standing:
        """Send a delivery again with a fresh schedule, whether it is dead, delivered, discarded or still waits.

        Raises `NotFound`, or `Invalid` where it cannot be sent again.
        """
        standing = (await self.find(delivery_id)).standing
        if standing.state is State.HELD:
            raise Invalid(FieldError("delivery", f"is held and leaves by itself: {standing.words}"))
        if not await self._replays.again(DeliveryFilter(ids=[delivery_id])):
            raise Invalid(FieldError("delivery", _why_not(standing)))
        return (await self.find(delivery_id)).standing

    async def retry_dead(self, wanted: DeliveryFilter, told: Callable[[int], None] = lambda count: None) -> int:
        """Send every dead letter that matches again; how many. `told` hears of each portion."""
        return await _in_portions(self._replays.again, wanted, told)

    async def discard_dead(self, wanted: DeliveryFilter, told: Callable[[int], None] = lambda count: None) -> int:
        """Give every dead letter that matches up for good; how many."""
        return await _in_portions(self._replays.discard, wanted, told)


async def _in_portions(
    act: Callable[[DeliveryFilter], Awaitable[Sequence[str]]], wanted: DeliveryFilter, told: Callable[[int], None]
) -> int:
    total = 0
    dead = replace(wanted, state=State.DEAD, limit=AT_ONCE)
    while ids := await act(dead):
        total += len(ids)
        told(len(ids))
    return total


def _why_not(standing: Standing) -> str:
    if standing.trigger is Trigger.TEST:
        return "is a test, which is not sent again: send a new one"
    return "cannot be sent again: its webhook was deleted, or its payload is no longer kept"
