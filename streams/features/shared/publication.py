"""Wait until a change is on its compacted topic, so that a response can say whether the stages know it."""

import asyncio
from collections.abc import Awaitable, Callable

from streams.core.errors import Unavailable

PUBLICATION_WAIT_SECONDS = 2.0
POLL_INTERVAL_SECONDS = 0.02


async def wait_until_published(is_published: Callable[[], Awaitable[bool]]) -> bool:
    """Wait up to two seconds. Returns whether it is published; False in an outage."""
    try:
        async with asyncio.timeout(PUBLICATION_WAIT_SECONDS):
            while not await is_published():
                await asyncio.sleep(POLL_INTERVAL_SECONDS)
    except (TimeoutError, Unavailable):
        return False
    return True
