"""Stages that are killed, or stopped as they should be, in mid-work."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from confluent_kafka import Consumer, TopicPartition

from chaos.scenario import ScenarioRun
from e2e.system import STAGES, until

FIDGET_SECONDS = 1.0


def kill(scenario_run: ScenarioRun, stage: str, times: int) -> None:
    with restless_customer(scenario_run):
        _kill(scenario_run, stage, times)


def kill_all(scenario_run: ScenarioRun, times: int, publish_times: int) -> None:
    """Each stage at a pace of its own, without regard for the others."""
    with restless_customer(scenario_run), ThreadPoolExecutor() as pool:
        # A killed publisher's lease lasts for 15 seconds more.
        killers = [
            pool.submit(_kill, scenario_run, stage, publish_times if stage == "publish" else times) for stage in STAGES
        ]
        for killer in killers:
            killer.result()


def _kill(scenario_run: ScenarioRun, stage: str, times: int) -> None:
    for _ in range(times):
        scenario_run.last(scenario_run.dice.random())
        scenario_run.kill(stage)


def restart_in_turn(scenario_run: ScenarioRun, rounds: int) -> None:
    """SIGTERM, with requests in flight that take their time."""
    scenario_run.customer("slow", "think=2500", types="package.updated")
    with restless_customer(scenario_run):
        for _ in range(rounds):
            for stage in scenario_run.dice.sample(STAGES, len(STAGES)):
                scenario_run.restart(stage)


def poison(scenario_run: ScenarioRun, times: int) -> None:
    """What nobody can read is parked; an endpoint that refuses some events has them as dead letters."""
    scenario_run.customer("strict", "refuse=40")
    for stage in ("fan-out", "record") * times:
        scenario_run.kill(stage)
    until(lambda: scenario_run.loaded.load.poisoned >= 5, 60, "some poison")
    # While others are delivered: an endpoint that only fails is paused, and what it is owed is held.
    until(lambda: scenario_run.loaded.states(scenario_run.name).get("dead", 0) > 0, 60, "dead letters")
    scenario_run.end()
    until(lambda: to_invalid_record(scenario_run) >= scenario_run.loaded.load.poisoned, 30, "all of it parked")


def to_invalid_record(scenario_run: ScenarioRun) -> int:
    """How many records the topic of the invalid ones ever had."""
    asker = Consumer({"bootstrap.servers": scenario_run.loaded.kafka.bootstrap, "group.id": "none"})
    topic = f"{scenario_run.loaded.prefix}session-events.invalid"
    ends = [asker.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in range(3)]
    asker.close()
    return sum(ends)


@contextmanager
def restless_customer(scenario_run: ScenarioRun) -> Iterator[None]:
    """Somebody who pauses and enables a webhook now and then, and leaves it enabled: work for `publish`."""
    webhook, enough = scenario_run.customer("restless"), Event()

    def fidget() -> None:
        while not enough.wait(FIDGET_SECONDS):
            scenario_run.loaded.system.run("webhooks", "pause", webhook)
            scenario_run.loaded.system.run("webhooks", "enable", webhook)

    with ThreadPoolExecutor() as pool:
        fidgeting = pool.submit(fidget)
        try:
            yield
        finally:
            enough.set()
        fidgeting.result()
