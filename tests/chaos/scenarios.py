"""The scenarios, in order."""

from functools import partial
from pathlib import Path

from chaos import (
    alerts,
    brokers,
    clocks,
    commits,
    databases,
    faults,
    freezes,
    growth,
    kills,
    members,
    meters,
    upgrades,
    webhooks,
)
from chaos.scenario import CLASSIC, KAFKA_3_7, KAFKA_3_9, THREE, Scenario
from e2e.system import STAGES


def scenarios(long: bool, pictures: Path | None = None) -> list[Scenario]:
    """The scenarios of `make chaos`, or their short forms for CI. Pictures of Prometheus go to that folder."""
    five = Scenario("alerts", partial(alerts.five, pictures=pictures), rate=30.0)
    return [*_long(), *_both(long=True), five] if long else [*_short(), *_both(long=False)]


def _long() -> list[Scenario]:
    alone = [Scenario(f"kill-{stage}", partial(kills.kill, stage=stage, times=8)) for stage in STAGES]
    return [*alone, Scenario("kill-all", partial(kills.kill_all, times=20, publish_times=6))]


def _short() -> list[Scenario]:
    return [Scenario("kill-all", partial(kills.kill_all, times=5, publish_times=1))]


def _both(long: bool) -> list[Scenario]:
    def choose(short: int, long_value: int) -> int:
        return long_value if long else short

    times = 3 if long else 1
    # After a kill the next publisher waits for the end of the lease.
    killed = ("publish",) if long else ()
    clock_cases = [("deliver", 600), ("fan-out", -600), ("deliver", -600), ("fan-out", 600)]
    return [
        Scenario("rolling-restart", partial(kills.restart_in_turn, rounds=times)),
        Scenario("pause-and-enable", partial(webhooks.pause_and_enable, rounds=times)),
        Scenario("rotate-and-replay", partial(webhooks.rotate_and_replay, rounds=times, also=killed)),
        Scenario("invalid-events-and-copies", partial(kills.invalid_events, times=times), copies=3, invalid_share=0.01),
        Scenario("kill-api", partial(commits.kill_api, times=choose(4, 12), publish_times=choose(0, 2))),
        Scenario("meter", partial(meters.kills_and_rebalances, rounds=choose(1, 6)), copies=3),
        Scenario("broker-kill", partial(brokers.kill, times=times)),
        Scenario("database-stop", partial(databases.stop, seconds=choose(8, 20))),
        Scenario("rebalance-storm", partial(members.storm, seconds=choose(15, 60))),
        Scenario("freeze-deliver", partial(freezes.deliver, seconds=choose(12, 60))),
        Scenario("freeze-publish", partial(freezes.publish, seconds=choose(12, 60))),
        Scenario("two-publishers", members.two_publishers),
        Scenario("wrong-clock", partial(clocks.wrong, cases=clock_cases[: choose(2, 4)], seconds=choose(3, 30))),
        Scenario("topic-recreated", brokers.recreate_subscriptions),
        Scenario("database-restore", databases.restore),
        # One copy of each: `deliver` is killed, and forgets what it has sent.
        Scenario("invalid-records", partial(faults.records, times=times), invalid_share=0.02),
        Scenario("wrong-key", partial(faults.wrong_key, seconds=choose(3, 20))),
        Scenario("missing-topic", faults.missing_topic),
        Scenario("file-descriptors", partial(faults.file_descriptors, seconds=choose(3, 20))),
        Scenario("upgrade", upgrades.release),
        Scenario("encryption-keys", upgrades.keys),
        Scenario("retry-schedule", upgrades.schedule),
        Scenario("processes", partial(upgrades.processes, seconds=choose(5, 30))),
        Scenario(
            "fan-out-consumer", partial(upgrades.fan_out_consumer, times=choose(2, 8), seconds=choose(3, 30)), copies=3
        ),
        Scenario("partitions", partial(growth.partitions, seconds=choose(1, 30))),
        Scenario("leader-kill", partial(brokers.kill_leader, times=times), on=THREE),
        # Groups of the classic protocol, and older brokers.
        Scenario("classic", partial(kills.kill_all, times=choose(2, 10), publish_times=0), on=CLASSIC),
        Scenario("kafka-3-7", partial(members.storm, seconds=choose(15, 60)), on=KAFKA_3_7),
        Scenario("kafka-3-9", partial(kills.kill_all, times=choose(2, 10), publish_times=0), on=KAFKA_3_9),
    ]
