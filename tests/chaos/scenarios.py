"""What is done to the system while it works, and in which order."""

from functools import partial

from chaos import brokers, clocks, databases, freezes, hostile, kills, members, webhooks
from chaos.scenario import Scenario
from e2e.system import STAGES


def scenarios(patient: bool) -> list[Scenario]:
    """Those of `make chaos`, which are patient, or their short forms for CI."""
    return [*(_patient() if patient else _short()), *_both(patient)]


def _patient() -> list[Scenario]:
    alone = [Scenario(f"kill-{stage}", partial(kills.kill, stage=stage, times=8)) for stage in STAGES]
    return [*alone, Scenario("kill-all", partial(kills.kill_all, times=20, publish_times=6))]


def _short() -> list[Scenario]:
    return [Scenario("kill-all", partial(kills.kill_all, times=5, publish_times=1))]


def _both(patient: bool) -> list[Scenario]:
    def how(short: int, long: int) -> int:
        return long if patient else short

    times = 3 if patient else 1
    # Whoever comes after a killed publisher waits for its lease to end.
    killed = ("publish",) if patient else ()
    misled = [("deliver", 600), ("fan-out", -600), ("deliver", -600), ("fan-out", 600)]
    return [
        Scenario("rolling-restart", partial(kills.restart_in_turn, rounds=times)),
        Scenario("pause-and-enable", partial(webhooks.pause_and_enable, rounds=times)),
        Scenario("rotate-and-replay", partial(webhooks.rotate_and_replay, rounds=times, also=killed)),
        Scenario("poison-and-copies", partial(kills.poison, times=times), copies=3, poison=0.01),
        Scenario("broker-kill", partial(brokers.kill, times=times)),
        Scenario("database-stop", partial(databases.stop, seconds=how(8, 20))),
        Scenario("rebalance-storm", partial(members.storm, seconds=how(15, 60))),
        Scenario("freeze-deliver", partial(freezes.deliver, seconds=how(12, 60))),
        Scenario("freeze-publish", partial(freezes.publish, seconds=how(12, 60))),
        Scenario("two-publishers", members.two_publishers),
        Scenario("wrong-clock", partial(clocks.wrong, cases=misled[: how(2, 4)], seconds=how(3, 30))),
        Scenario("topic-made-anew", brokers.make_subscriptions_anew),
        Scenario("database-restore", databases.restore),
        Scenario("restore-with-deletions", databases.restore_with_deletions),
        Scenario("hostile-records", partial(hostile.records, times=times), copies=3, poison=0.02),
        Scenario("wrong-key", partial(hostile.wrong_key, seconds=how(3, 20))),
        Scenario("missing-topic", hostile.missing_topic),
        Scenario("file-descriptors", partial(hostile.file_descriptors, seconds=how(3, 20))),
        Scenario("leader-kill", partial(brokers.kill_leader, times=times), apart=True),
    ]
