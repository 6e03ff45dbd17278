"""From the small deployment to the default one, in the order of docs/stages.md."""

import time
from functools import partial

from chaos import meters
from chaos.kills import restless_customer
from chaos.scenario import ScenarioRun
from chaos.upgrades import SHARED, WAIT_SECONDS, processes, restart, set_env
from e2e.system import System, until
from streams.runtime.background import BACKGROUND_NAME

# The supervisor runs these; `meter` and `notify` are another machine's.
SUPERVISED, ELSEWHERE = ("publish", "maintain"), ("meter", "notify")
FEW, EVENTS, DELIVERIES = 6, 12, 24
# Producers and `fan-out` detect new partitions at their next metadata refresh.
REFRESH = {"KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS": "1000"}


def partitions(scenario_run: ScenarioRun, seconds: float) -> None:
    """More partitions, then a process for each stage, then more processes. Each launch is counted once."""
    set_env(scenario_run, REFRESH)
    account = meters.customer(scenario_run)
    with restless_customer(scenario_run):
        become_small(scenario_run)
        apply_topics(scenario_run, EVENTS, DELIVERIES)
        for number in range(6):
            scenario_run.customer(f"added-{number}", types="session.completed")
        with scenario_run.member("apart") as apart:
            leave_background(scenario_run, apart)
            processes(scenario_run, seconds, more=1)
            for stage in SHARED:
                until(partial(reads_new_partitions, scenario_run, stage), WAIT_SECONDS, f"{stage} reads new partitions")
            scenario_run.end()
            meters.check(scenario_run, account)


def apply_topics(scenario_run: ScenarioRun, events: int, deliveries: int) -> None:
    numbers = {"EVENT_PARTITIONS": events, "DELIVERY_PARTITIONS": deliveries}
    set_env(scenario_run, {f"SCORM_WEBHOOKS_{name}": str(number) for name, number in numbers.items()})
    scenario_run.loaded.system.run("topics", "apply")
    scenario_run.supervisor.count_partitions(events, deliveries)


def become_small(scenario_run: ScenarioRun) -> None:
    supervisor = scenario_run.supervisor
    apply_topics(scenario_run, FEW, FEW)
    supervisor.start(BACKGROUND_NAME)
    restart(scenario_run, "fan-out", "deliver")
    until(partial(scenario_run.loaded.system.is_ready, BACKGROUND_NAME), WAIT_SECONDS, "background is ready")
    replace(scenario_run, *SUPERVISED)


def leave_background(scenario_run: ScenarioRun, apart: System) -> None:
    """Start a process for each of its stages, and stop it when they are ready."""
    system, supervisor = scenario_run.loaded.system, scenario_run.supervisor
    supervisor.start(*SUPERVISED)
    for stage in ELSEWHERE:
        apart.launch(stage)
    started = [*((system, stage) for stage in SUPERVISED), *((apart, stage) for stage in ELSEWHERE)]
    for place, stage in started:
        until(partial(place.is_ready, stage), WAIT_SECONDS, f"{stage} is ready")
    replace(scenario_run, BACKGROUND_NAME)


def replace(scenario_run: ScenarioRun, *old: str) -> None:
    """Stop processes, and wait until others do the work of `publish`."""
    before, at = scenario_run.supervisor.progress("publish"), time.time()
    for process in old:
        code = scenario_run.supervisor.stop(process)
        assert code == 0, f"{process} ended with {code}"
    scenario_run.await_progress("publish", before, at)


def reads_new_partitions(scenario_run: ScenarioRun, stage: str) -> bool:
    return scenario_run.supervisor.progress(stage, first=FEW) > 0
