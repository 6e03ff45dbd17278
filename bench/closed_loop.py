"""A load generator that waits for deliveries: it never runs far ahead of what arrives."""

from collections.abc import Callable


def closed_loop(
    limit: int,
    *,
    delivered: Callable[[], int],
    publish: Callable[[int], None],
    pause: Callable[[], None],
    is_over: Callable[[], bool],
) -> int:
    """Publish 0, 1, 2 … with at most `limit` published and undelivered, until it is over; how many that were.

    `delivered` counts deliveries since the start; `pause` is called after each round of publishing.
    """
    published = 0
    while not is_over():
        for _ in range(limit - (published - delivered())):
            publish(published)
            published += 1
        pause()
    return published
