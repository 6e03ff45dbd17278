"""More than one process of a stage."""

import signal
import time
from contextlib import ExitStack
from itertools import count

import psycopg

from chaos.scenario import ScenarioRun
from e2e.system import until

EXTRA_MEMBERS = 3


def storm(scenario_run: ScenarioRun, seconds: float) -> None:
    """Every second a member of `deliver` joins or leaves cleanly."""
    ends_at = time.monotonic() + seconds
    with ExitStack() as stack:
        extras = [stack.enter_context(scenario_run.member(f"deliver-{number}")) for number in range(EXTRA_MEMBERS)]
        for turn in count():
            extra = extras[turn % EXTRA_MEMBERS]
            if turn // EXTRA_MEMBERS % 2 == 0:
                extra.launch("deliver")
            else:
                extra.send("deliver", signal.SIGTERM)
            scenario_run.hold_for(1)
            if time.monotonic() > ends_at:
                break
        before, at = scenario_run.supervisor.progress("deliver"), time.time()
        for extra in extras:
            extra.stop("deliver")
        scenario_run.await_progress("deliver", before, at)


def two_publishers(scenario_run: ScenarioRun) -> None:
    """Two publishers start together: one works, and the other takes over when it stops."""
    webhook, ours = scenario_run.customer("watched"), scenario_run.loaded.system
    assert scenario_run.supervisor.stop("publish") == 0
    with scenario_run.member("rival") as rival:
        rival.launch("publish")
        scenario_run.supervisor.start("publish")
        until(lambda: holder(scenario_run) in {rival.pid("publish"), ours.pid("publish")}, 60, "a publisher")
        scenario_run.change(webhook)
        rival_works = holder(scenario_run) == rival.pid("publish")
        works, waits = (rival, ours) if rival_works else (ours, rival)
        until(lambda: works.is_ready("publish") and waits.is_ready("publish"), 60, "both are up")
        before, at = scenario_run.supervisor.progress("publish"), time.time()
        assert (rival.stop("publish") if rival_works else scenario_run.supervisor.stop("publish")) == 0
        until(lambda: holder(scenario_run) == waits.pid("publish"), 60, "the other one took over")
        scenario_run.change(webhook)
        scenario_run.await_progress("publish", before, at)
        if not rival_works:
            assert rival.stop("publish") == 0
            scenario_run.supervisor.start("publish")


def holder(scenario_run: ScenarioRun) -> int:
    """The process id of the publisher that holds the lease; 0 without one."""
    with psycopg.connect(scenario_run.loaded.database_url) as connection:
        # Its name has the prefix of the topics.
        query = b"SELECT holder FROM leases WHERE name LIKE '%publish' AND expires_at > now()"
        row = connection.execute(query).fetchone()
    return int(row[0].split("/")[1]) if row else 0
