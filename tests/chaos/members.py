"""More than one process of a stage."""

import signal
import time
from contextlib import ExitStack
from itertools import count

import psycopg

from chaos.scenario import ScenarioRun
from e2e.system import until

EXTRA_MEMBERS = 3


def storm(act: ScenarioRun, seconds: float) -> None:
    """Every second another member of deliver joins, or leaves as it should."""
    ends_at = time.monotonic() + seconds
    with ExitStack() as stack:
        extras = [stack.enter_context(act.member(f"deliver-{number}")) for number in range(EXTRA_MEMBERS)]
        for turn in count():
            extra = extras[turn % EXTRA_MEMBERS]
            if turn // EXTRA_MEMBERS % 2 == 0:
                extra.launch("deliver")
            else:
                extra.send("deliver", signal.SIGTERM)
            act.last(1)
            if time.monotonic() > ends_at:
                break
        before, at = act.crew.progress("deliver"), time.time()
        for extra in extras:
            extra.stop("deliver")
        act.await_progress("deliver", before, at)


def two_publishers(act: ScenarioRun) -> None:
    """Two that start at once: one works, the other takes over when that one is told to stop."""
    webhook, ours = act.customer("watched"), act.world.system
    assert act.crew.stop("publish") == 0
    with act.member("rival") as rival:
        rival.launch("publish")
        act.crew.start("publish")
        until(lambda: holder(act) in {rival.pid("publish"), ours.pid("publish")}, 60, "a publisher")
        act.change(webhook)
        rival_works = holder(act) == rival.pid("publish")
        works, waits = (rival, ours) if rival_works else (ours, rival)
        until(lambda: works.is_ready("publish") and waits.is_ready("publish"), 60, "both are up")
        before, at = act.crew.progress("publish"), time.time()
        assert (rival.stop("publish") if rival_works else act.crew.stop("publish")) == 0
        until(lambda: holder(act) == waits.pid("publish"), 60, "the other one took over")
        act.change(webhook)
        act.await_progress("publish", before, at)
        if not rival_works:
            assert rival.stop("publish") == 0
            act.crew.start("publish")


def holder(act: ScenarioRun) -> int:
    """Whose the lease is, by process id; 0: nobody's."""
    with psycopg.connect(act.world.database_url) as connection:
        row = connection.execute("SELECT holder FROM leases WHERE expires_at > now()").fetchone()
    return int(row[0].split("/")[1]) if row else 0
