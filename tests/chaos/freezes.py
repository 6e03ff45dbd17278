"""Stages that stand still for a while and then go on as if nothing had been: SIGSTOP and SIGCONT."""

import time

from chaos.members import holder
from chaos.scenario import ScenarioRun
from e2e.system import System, until

# Topics that `deliver` reads (first attempts, tests, three tiers) times their partitions.
PARTITIONS = 5 * 4
NEWS = {"partitions_assigned": 1, "partitions_revoked": -1, "partitions_lost": -1}
LEASE_LOST = 3


def deliver(scenario_run: ScenarioRun, seconds: float) -> None:
    """Another member takes over; the sleeper wakes up with requests in hand that are not its own any more."""
    with scenario_run.member("rival") as rival:
        rival.start(["deliver"])
        until(lambda: owned(rival) > 0, 60, "partitions at the rival")
        before, at = scenario_run.supervisor.progress("deliver"), scenario_run.supervisor.freeze("deliver")
        scenario_run.may_duplicate(at)
        until(lambda: owned(rival) == PARTITIONS, 60, "every partition at the rival")
        scenario_run.await_progress("deliver", before, at)
        scenario_run.last(max(0, at + seconds - time.time()))
        scenario_run.supervisor.thaw("deliver")
        until(lambda: owned(rival) < PARTITIONS, 60, "the sleeper is back in the group")
        assert rival.stop("deliver") == 0


def publish(scenario_run: ScenarioRun, seconds: float) -> None:
    """A rival takes the lease over and publishes; the sleeper must not write what is older."""
    webhook = scenario_run.customer("watched")
    with scenario_run.member("rival") as rival:
        rival.start(["publish"])
        before, at = scenario_run.supervisor.progress("publish"), scenario_run.supervisor.freeze("publish")
        until(lambda: holder(scenario_run) == rival.pid("publish"), 60, "the rival has the lease")
        scenario_run.change(webhook)
        scenario_run.await_progress("publish", before, at)
        scenario_run.last(max(0, at + seconds - time.time()))
        exits = scenario_run.supervisor.exits["publish", LEASE_LOST]
        scenario_run.supervisor.thaw("publish")
        until(
            lambda: scenario_run.supervisor.exits["publish", LEASE_LOST] > exits,
            30,
            "the sleeper found its lease gone and exited",
        )
        scenario_run.change(webhook)
        assert holder(scenario_run) == rival.pid("publish")
        assert rival.stop("publish") == 0


def owned(system: System) -> int:
    """How many partitions a member of deliver has, by its own words."""
    return sum(NEWS[fact["event"]] * fact["count"] for fact in system.log_events("deliver") if fact["event"] in NEWS)
