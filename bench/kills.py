"""Requests that endpoints get twice because `deliver` was killed."""

import statistics
import time
from bisect import bisect
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from bench.sink import Receipt
from bench.stack import WARM_DELIVERIES, Stack, running
from e2e.system import until

WEBHOOKS = 20


def kills(
    count: Annotated[int, typer.Option(help="Number of kills.")] = 5,
    rate: Annotated[float, typer.Option(help="Events a second.")] = 100,
    think_ms: Annotated[int, typer.Option(help="Response time of the endpoints.")] = 200,
    every: Annotated[float, typer.Option(help="Seconds between two kills.")] = 15,
    warm: Annotated[int, typer.Option(help="Deliveries before the measurement.")] = WARM_DELIVERIES,
) -> dict[str, object]:
    """Events that endpoints get again after `kill -9` of `deliver`, which starts again at once."""
    with running(Stack()) as stack:
        stack.start()
        accounts = [account for account, _ in stack.register([f"/slow-{think_ms}/{n}" for n in range(WEBHOOKS)])]
        stack.warm_up(accounts, warm)
        began = time.monotonic()
        killed_at: list[float] = []

        def publish(number: int) -> None:
            if len(killed_at) < count and time.monotonic() > began + every * (1 + len(killed_at)):
                stack.system.kill("deliver")
                killed_at.append(time.monotonic())
                stack.system.launch("deliver")
            stack.publish(f"evt_{number}", accounts[number % WEBHOOKS])

        published = stack.at_rate(rate, every * (count + 1), publish)
        receipts: list[Receipt] = []

        def arrived() -> int:
            receipts.extend(stack.take())
            return len({event_id for _, event_id, _, _ in receipts})

        until(lambda: arrived() == published, 60, "every event at the sink")
        stack.wait_for_record(published + warm, 60)
        receipts += stack.take()
        repeated = repeats(receipts, killed_at)
        return stack.say(
            experiment="kills",
            rate=rate,
            think_ms=think_ms,
            published=published,
            lost=published - arrived(),
            in_flight=round(rate * think_ms / 1000),
            repeated=repeated,
            repeated_median=statistics.median(repeated),
        )


def repeats(receipts: Iterable[Receipt], killed_at: Sequence[float]) -> list[int]:
    """How many requests for events that had arrived before came after each kill, and before the next one."""
    counts = [0] * (len(killed_at) + 1)
    seen: set[str] = set()
    for _, event_id, at, _ in sorted(receipts, key=lambda receipt: receipt[2]):
        if event_id in seen:
            counts[bisect(killed_at, at)] += 1
        seen.add(event_id)
    assert counts[0] == 0, "a request was repeated without a kill"
    return counts[1:]
