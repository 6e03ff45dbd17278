"""Stages are killed or restarted under load."""

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
    """Kill all stages concurrently, each at its own pace."""
    with restless_customer(scenario_run), ThreadPoolExecutor() as pool:
        # The lease of a killed publisher lasts 15 seconds more.
        killers = [
            pool.submit(_kill, scenario_run, stage, publish_times if stage == "publish" else times) for stage in STAGES
        ]
        for killer in killers:
            killer.result()


def _kill(scenario_run: ScenarioRun, stage: str, times: int) -> None:
    for _ in range(times):
        scenario_run.hold_for(scenario_run.random.random())
        scenario_run.kill(stage)


def restart_in_turn(scenario_run: ScenarioRun, rounds: int) -> None:
    """Restart each stage by SIGTERM, with requests in flight that end within a stop's 1.5 seconds."""
    scenario_run.customer("slow", "delay=700", types="package.updated")
    with restless_customer(scenario_run):
        for _ in range(rounds):
            for stage in scenario_run.random.sample(STAGES, len(STAGES)):
                scenario_run.restart(stage)


def invalid_events(scenario_run: ScenarioRun, times: int) -> None:
    """Invalid records are stored as invalid; events that an endpoint refuses become dead letters."""
    scenario_run.customer("strict", "refuse=40")
    for stage in ("fan-out", "record") * times:
        scenario_run.kill(stage)
    until(lambda: scenario_run.loaded.load.invalid_written >= 5, 60, "some invalid records")
    # Other events are delivered meanwhile: an endpoint that always fails would be paused.
    until(lambda: scenario_run.loaded.states(scenario_run.name).get("dead", 0) > 0, 60, "dead letters")
    scenario_run.end()
    until(lambda: invalid_count(scenario_run) >= scenario_run.loaded.load.invalid_written, 30, "all stored as invalid")


def invalid_count(scenario_run: ScenarioRun) -> int:
    """Number of records that the topic of invalid records ever had."""
    asker = Consumer({"bootstrap.servers": scenario_run.loaded.kafka.bootstrap, "group.id": "none"})
    topic = f"{scenario_run.loaded.prefix}session-events.invalid"
    ends = [asker.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in range(3)]
    asker.close()
    return sum(ends)


@contextmanager
def restless_customer(scenario_run: ScenarioRun) -> Iterator[None]:
    """Pause and enable a webhook repeatedly, as work for `publish`; leave it enabled."""
    webhook, enough = scenario_run.customer("restless"), Event()

    def pause_now_and_then() -> None:
        while not enough.wait(FIDGET_SECONDS):
            scenario_run.loaded.system.run("webhooks", "pause", webhook)
            scenario_run.loaded.system.run("webhooks", "enable", webhook)

    with ThreadPoolExecutor() as pool:
        fidgeting = pool.submit(pause_now_and_then)
        try:
            yield
        finally:
            enough.set()
        fidgeting.result()
