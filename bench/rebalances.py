"""How late events are while a member of `deliver` joins or leaves, by the protocol of its group."""

import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer

from bench.stack import WARM_DELIVERIES, Stack, running
from e2e.system import until

WEBHOOKS = 20
LATE_SECONDS = 0.1


def rebalances(
    count: Annotated[int, typer.Option(help="How often a second process joins, and leaves.")] = 5,
    rate: Annotated[float, typer.Option(help="Events a second.")] = 100,
    every: Annotated[float, typer.Option(help="Seconds from one change to the next.")] = 10,
    warm: Annotated[int, typer.Option(help="Deliveries before the measurement.")] = WARM_DELIVERIES,
) -> Iterator[dict[str, object]]:
    """The longest time from call to receipt while a second `deliver` starts, and while it stops by SIGTERM."""
    for protocol in ("consumer", "classic"):
        yield _measure(protocol, count, rate, every, warm)


def _measure(protocol: str, count: int, rate: float, every: float, warm: int) -> dict[str, object]:
    with running(Stack(SCORM_WEBHOOKS_KAFKA_GROUP_PROTOCOL=protocol)) as stack:
        stack.start()
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(WEBHOOKS)])]
        stack.warm_up(accounts, warm)
        second = stack.another()
        changed_at: list[float] = []
        published_at: dict[str, float] = {}
        began = time.monotonic()

        def publish(number: int) -> None:
            if len(changed_at) < 2 * count and time.monotonic() > began + every * (1 + len(changed_at)):
                changed_at.append(time.monotonic())
                # The load goes on while it starts or stops.
                if len(changed_at) % 2:
                    second.launch("deliver")
                else:
                    second.send("deliver", signal.SIGTERM)
            published_at[f"evt_{number}"] = time.monotonic()
            stack.publish(f"evt_{number}", accounts[number % WEBHOOKS])

        published = stack.at_rate(rate, every * (2 * count + 1), publish)
        until(lambda: stack.sink.count() >= published, 60, "every event at the sink")
        receipts = stack.take()
        delays = {event: at - published_at[event] for _, event, at, _ in receipts}
        after = [_around(change, every, published_at, delays) for change in changed_at]
        return stack.say(
            experiment="rebalances",
            protocol=protocol,
            rate=rate,
            events=published,
            twice=len(receipts) - len(delays),
            join=_figures(after[::2]),
            leave=_figures(after[1::2]),
        )


def _around(
    change: float, seconds: float, published_at: Mapping[str, float], delays: Mapping[str, float]
) -> Sequence[float]:
    """The delays of the events that were published around a change, and before the next one."""
    return [delays[event] for event, at in published_at.items() if change - 0.5 <= at < change - 0.5 + seconds]


def _figures(changes: Sequence[Sequence[float]]) -> dict[str, object]:
    longest = [max(delays) for delays in changes]
    late = [sum(delay > LATE_SECONDS for delay in delays) for delays in changes]
    return {
        "longest_s_median": round(statistics.median(longest), 2),
        "longest_s": [round(seconds, 2) for seconds in longest],
        "events_over_100_ms": round(statistics.median(late)),
    }
