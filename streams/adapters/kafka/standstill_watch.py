"""Notice a topic that was recreated while its consumer says nothing."""

import asyncio
from collections.abc import Awaitable, Callable

from streams.adapters.kafka.end_offset import SubscriptionsReaderFailed
from streams.topics import SUBSCRIPTIONS

WATCH_SECONDS = 5.0
# This many checks in a row without progress mean that the consumer does not read this topic.
STANDSTILLS = 3


async def watch_standstill(position: Callable[[], int], end: Callable[[], Awaitable[int]]) -> None:
    """Compare the position with the end of the topic. Raises `SubscriptionsReaderFailed` after a standstill.

    The leader's epoch of a recreated topic starts at 0 again. librdkafka takes it for an old leader, and waits.
    """
    standstills = 0
    while standstills < STANDSTILLS:
        before = position()
        await asyncio.sleep(WATCH_SECONDS)
        last = await end()
        standstills = standstills + 1 if before == position() < last else 0
    raise SubscriptionsReaderFailed(
        f"{SUBSCRIPTIONS} ends at {last}, but the consumer stays at {before}: the topic was recreated"
    )
