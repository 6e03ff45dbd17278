"""Stages that are killed, or stopped as they should be, in mid-work."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from confluent_kafka import Consumer, TopicPartition

from chaos.scenario import ScenarioRun
from e2e.system import STAGES, until

FIDGET_SECONDS = 1.0


def kill(act: ScenarioRun, stage: str, times: int) -> None:
    with restless_customer(act):
        _kill(act, stage, times)


def kill_all(act: ScenarioRun, times: int, publish_times: int) -> None:
    """Each stage at a pace of its own, without regard for the others."""
    with restless_customer(act), ThreadPoolExecutor() as pool:
        # A killed publisher's lease lasts for 15 seconds more.
        killers = [pool.submit(_kill, act, stage, publish_times if stage == "publish" else times) for stage in STAGES]
        for killer in killers:
            killer.result()


def _kill(act: ScenarioRun, stage: str, times: int) -> None:
    for _ in range(times):
        act.last(act.dice.random())
        act.kill(stage)


def restart_in_turn(act: ScenarioRun, rounds: int) -> None:
    """SIGTERM, with requests in flight that take their time."""
    act.customer("slow", "think=2500", types="package.updated")
    with restless_customer(act):
        for _ in range(rounds):
            for stage in act.dice.sample(STAGES, len(STAGES)):
                act.restart(stage)


def poison(act: ScenarioRun, times: int) -> None:
    """What nobody can read is parked; an endpoint that refuses some events has them as dead letters."""
    act.customer("strict", "refuse=40")
    for stage in ("fan-out", "record") * times:
        act.kill(stage)
    until(lambda: act.world.load.poisoned >= 5, 60, "some poison")
    # While others are delivered: an endpoint that only fails is paused, and what it is owed is held.
    until(lambda: act.world.states(act.name).get("dead", 0) > 0, 60, "dead letters")
    act.end()
    until(lambda: to_invalid_record(act) >= act.world.load.poisoned, 30, "all of it parked")


def to_invalid_record(act: ScenarioRun) -> int:
    """How many records the topic of the invalid ones ever had."""
    asker = Consumer({"bootstrap.servers": act.world.kafka.bootstrap, "group.id": "none"})
    topic = f"{act.world.prefix}session-events.invalid"
    ends = [asker.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in range(3)]
    asker.close()
    return sum(ends)


@contextmanager
def restless_customer(act: ScenarioRun) -> Iterator[None]:
    """Somebody who pauses and enables a webhook now and then, and leaves it enabled: work for `publish`."""
    webhook, enough = act.customer("restless"), Event()

    def fidget() -> None:
        while not enough.wait(FIDGET_SECONDS):
            act.world.system.run("webhooks", "pause", webhook)
            act.world.system.run("webhooks", "enable", webhook)

    with ThreadPoolExecutor() as pool:
        fidgeting = pool.submit(fidget)
        try:
            yield
        finally:
            enough.set()
        fidgeting.result()
