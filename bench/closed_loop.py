"""A load generator with a limit of undelivered events."""

from collections.abc import Callable


def closed_loop(
    limit: int,
    *,
    delivered: Callable[[], int],
    publish: Callable[[int], None],
    pause: Callable[[], None],
    is_over: Callable[[], bool],
) -> int:
    """Publish 0, 1, 2 … with at most `limit` undelivered, until `is_over`; return the number published.

    `delivered` counts deliveries since the start; `pause` is called after each round of publishing.
    """
    published = 0
    while not is_over():
        for _ in range(limit - (published - delivered())):
            publish(published)
            published += 1
        pause()
    return published
