"""Something that happens to a release under load, and what it costs."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chaos.checker import Evidence, Verdict, check
from kube.pods import End
from streams.core.deliveries.time_limits import REQUESTS_DRAIN_SECONDS, TimeLimits

# The longest time between two commits, and a request before the commit.
UNCOMMITTED_SECONDS = 1.1
LIMITS = TimeLimits(10)
# `api` sleeps five seconds before its SIGTERM.
END_SECONDS = LIMITS.stop_seconds + 5


@dataclass(frozen=True)
class Row:
    """What happened, and what it cost."""

    what: str
    events: int
    deliveries: int
    lost: int
    repeated: int


def table(rows: Sequence[Row]) -> str:
    """As docs/kubernetes.md has it."""
    lines = ["| what happened | events | deliveries | lost | sent twice |", "|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.events} | {row.deliveries} | {row.lost} | {row.repeated} |" for row in rows]
    return "\n".join(lines)


class Happening:
    """`name` is the prefix of its events' ids. After the end: what it cost."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._doubts: list[tuple[float, float]] = []
        self.repeated = 0
        self.allowed = 0
        self.ends: list[End] = []

    @contextmanager
    def doubt(self) -> Iterator[None]:
        """What is sent from the last commit before the body to its end may be sent twice."""
        since = time.time() - UNCOMMITTED_SECONDS
        yield
        self._doubts.append((since, time.time()))

    def judge(self, evidence: Evidence, ends: list[End]) -> Verdict:
        verdict = check(evidence)
        of_this = f"{self._name}:"
        self.repeated = sum(count for (event, _), count in verdict.repeated.items() if event.startswith(of_this))
        self.allowed = sum(
            receipt.accepted and any(since <= receipt.at <= end for since, end in self._doubts)
            for receipt in evidence.receipts
        )
        self.ends = ends
        return verdict

    def unexplained(self) -> int:
        """What was sent twice, unless a `deliver` lacked the time to finish what it had begun: on a busy machine."""
        ran_out = any(end.stage == "deliver" and end.seconds > REQUESTS_DRAIN_SECONDS for end in self.ends)
        return 0 if ran_out else self.repeated

    def bad_ends(self) -> list[End]:
        """Processes that ended with an error, or too late, after they were asked to end."""
        return [end for end in self.ends if end.code != 0 or end.seconds > END_SECONDS]
