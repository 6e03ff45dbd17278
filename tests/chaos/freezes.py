"""Stages are stopped for a while and then continue: SIGSTOP and SIGCONT."""

import time

from chaos.members import holder
from chaos.scenario import ScenarioRun
from e2e.system import System, until

# Topics that `deliver` reads (first attempts, the bulk, tests, three tiers) times their partitions.
PARTITIONS = 6 * 4
NEWS = {"partitions_assigned": 1, "partitions_revoked": -1, "partitions_lost": -1}
LEASE_LOST = 3


def deliver(scenario_run: ScenarioRun, seconds: float) -> None:
    """Another member takes over; the frozen one continues with requests of partitions that it lost."""
    with scenario_run.member("rival") as rival:
        rival.start(["deliver"])
        until(lambda: owned(rival) > 0, 60, "partitions at the rival")
        before, at = scenario_run.supervisor.progress("deliver"), scenario_run.supervisor.freeze("deliver")
        scenario_run.may_duplicate(at)
        until(lambda: owned(rival) == PARTITIONS, 60, "every partition at the rival")
        scenario_run.await_progress("deliver", before, at)
        scenario_run.hold_for(max(0, at + seconds - time.time()))
        scenario_run.supervisor.resume("deliver")
        until(lambda: owned(rival) < PARTITIONS, 60, "the frozen member is back in the group")
        assert rival.stop("deliver") == 0


def publish(scenario_run: ScenarioRun, seconds: float) -> None:
    """A rival takes the lease and publishes; the frozen publisher must not write older versions."""
    webhook = scenario_run.customer("watched")
    with scenario_run.member("rival") as rival:
        rival.start(["publish"])
        before, at = scenario_run.supervisor.progress("publish"), scenario_run.supervisor.freeze("publish")
        until(lambda: holder(scenario_run) == rival.pid("publish"), 60, "the rival has the lease")
        scenario_run.change(webhook)
        scenario_run.await_progress("publish", before, at)
        scenario_run.hold_for(max(0, at + seconds - time.time()))
        exits = scenario_run.supervisor.exits["publish", LEASE_LOST]
        scenario_run.supervisor.resume("publish")
        until(
            lambda: scenario_run.supervisor.exits["publish", LEASE_LOST] > exits,
            30,
            "the frozen publisher exited without its lease",
        )
        scenario_run.change(webhook)
        assert holder(scenario_run) == rival.pid("publish")
        assert rival.stop("publish") == 0


def owned(system: System) -> int:
    """Number of partitions that a member of `deliver` owns, from its log."""
    return sum(NEWS[fact["event"]] * fact["count"] for fact in system.log_events("deliver") if fact["event"] in NEWS)
