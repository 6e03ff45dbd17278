"""Stages that stand still for a while and then go on as if nothing had been: SIGSTOP and SIGCONT."""

import time

from chaos.members import holder
from chaos.scenario import ScenarioRun
from e2e.system import System, until

# Topics that `deliver` reads (first attempts, tests, three tiers) times their partitions.
PARTITIONS = 5 * 4
NEWS = {"partitions_assigned": 1, "partitions_revoked": -1, "partitions_lost": -1}
LEASE_LOST = 3


def deliver(act: ScenarioRun, seconds: float) -> None:
    """Another member takes over; the sleeper wakes up with requests in hand that are not its own any more."""
    with act.member("rival") as rival:
        rival.start(["deliver"])
        until(lambda: owned(rival) > 0, 60, "partitions at the rival")
        before, at = act.crew.progress("deliver"), act.crew.freeze("deliver")
        act.doubt(at)
        until(lambda: owned(rival) == PARTITIONS, 60, "every partition at the rival")
        act.await_progress("deliver", before, at)
        act.last(max(0, at + seconds - time.time()))
        act.crew.thaw("deliver")
        until(lambda: owned(rival) < PARTITIONS, 60, "the sleeper is back in the group")
        assert rival.stop("deliver") == 0


def publish(act: ScenarioRun, seconds: float) -> None:
    """A rival takes the lease over and publishes; the sleeper must not write what is older."""
    webhook = act.customer("watched")
    with act.member("rival") as rival:
        rival.start(["publish"])
        before, at = act.crew.progress("publish"), act.crew.freeze("publish")
        until(lambda: holder(act) == rival.pid("publish"), 60, "the rival has the lease")
        act.change(webhook)
        act.await_progress("publish", before, at)
        act.last(max(0, at + seconds - time.time()))
        exits = act.crew.exits["publish", LEASE_LOST]
        act.crew.thaw("publish")
        until(lambda: act.crew.exits["publish", LEASE_LOST] > exits, 30, "the sleeper found its lease gone and exited")
        act.change(webhook)
        assert holder(act) == rival.pid("publish")
        assert rival.stop("publish") == 0


def owned(system: System) -> int:
    """How many partitions a member of deliver has, by its own words."""
    return sum(NEWS[fact["event"]] * fact["count"] for fact in system.facts("deliver") if fact["event"] in NEWS)
