"""What an operator changes while events flow: release, keys, retry schedule, numbers of processes."""

import json
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import schemas
from chaos.kills import restless_customer
from chaos.scenario import ScenarioRun
from e2e.system import STAGES, until
from fakes import newer_schemas
from streams.adapters.encryption import generate_key

CONSUMER = "SCORM_WEBHOOKS_FAN_OUT_CONSUMER"
KEYS = "SCORM_WEBHOOKS_ENCRYPTION_KEYS"
SCHEDULE = "SCORM_WEBHOOKS_RETRY_SCHEDULE"
SHARED = ("deliver", "record", "fan-out")
WAIT_SECONDS = 60.0
SETTLE_SECONDS = 120.0
A_BATCH = 20


def release(scenario_run: ScenarioRun) -> None:
    """Upgrade to the next release, roll back when it has written records of its own schemas, and upgrade again."""
    with restless_customer(scenario_run):
        supervisor = scenario_run.supervisor
        webhook = scenario_run.customer("upgraded")
        with next_release(scenario_run):
            restart(scenario_run, *STAGES)
            scenario_run.change(webhook)
            before = supervisor.progress("record")
            until(lambda: supervisor.progress("record") > before + 100, WAIT_SECONDS, "newer records")
        # These stages wait, and what they cannot read is not stored as invalid.
        for stage in ("deliver", "record"):
            assert supervisor.stop(stage) == 0
            supervisor.start(stage)
            until(partial(waits, scenario_run, stage), WAIT_SECONDS, f"{stage} waits for the next release")
        with next_release(scenario_run):
            restart(scenario_run, *STAGES)
            scenario_run.end()
            until(
                partial(scenario_run.loaded.is_settled, scenario_run.name), SETTLE_SECONDS, "no newer record is unread"
            )
        # Nobody publishes any more: a restart has no progress.
        for stage in STAGES:
            assert supervisor.stop(stage) == 0
            supervisor.start(stage)
        supervisor.wait_until_ready()


@contextmanager
def next_release(scenario_run: ScenarioRun) -> Iterator[None]:
    """Start processes of the next release, whose schemas have more fields."""
    folder = scenario_run.loaded.folder / "next-release"
    if not folder.exists():
        write_schemas(folder / "schemas")
    set_env(scenario_run, {"PYTHONPATH": str(folder)})
    try:
        yield
    finally:
        set_env(scenario_run, {"PYTHONPATH": ""})


def set_env(scenario_run: ScenarioRun, changes: dict[str, str]) -> None:
    """Change settings of the processes that start from now on, while other threads start commands."""
    system = scenario_run.loaded.system
    system.env = {**system.env, **changes}


def write_schemas(package: Path) -> None:
    """Write the schemas of the next release, as a package that takes the place of ours."""
    shutil.copytree(Path(schemas.__file__).parent, package)
    for name, versions in newer_schemas().items():
        text = json.dumps(versions[-1])
        (package / f"{name}.avsc").write_text(text)
        (package / "history" / f"{name}.{len(versions)}.avsc").write_text(text)


def waits(scenario_run: ScenarioRun, stage: str) -> bool:
    return "a newer release wrote" in scenario_run.loaded.system.problem(stage)


def restart(scenario_run: ScenarioRun, *stages: str) -> None:
    """Restart stages one after the other, each when the one before works."""
    for stage in stages:
        scenario_run.restart(stage)


def keys(scenario_run: ScenarioRun) -> None:
    """The steps of docs/security.md; a webhook is registered after each."""
    with restless_customer(scenario_run):
        system = scenario_run.loaded.system
        old, new = system.env[KEYS], generate_key()
        for number, both in enumerate((f"{old},{new}", f"{new},{old}")):
            set_env(scenario_run, {KEYS: both})
            restart(scenario_run, *STAGES)
            scenario_run.customer(f"registered-{number}")
        system.run("secrets", "reencrypt")
        until(system.has_published, WAIT_SECONDS, "every webhook is published again")
        set_env(scenario_run, {KEYS: new})
        restart(scenario_run, *STAGES)


def schedule(scenario_run: ScenarioRun) -> None:
    """Another retry schedule, and then the first one again, while retries wait."""
    with restless_customer(scenario_run):
        system = scenario_run.loaded.system
        before = system.env[SCHEDULE]
        scenario_run.customer("failing", "flaky=2")
        for waits_of_tiers in ("1s,4s", before):
            set_env(scenario_run, {SCHEDULE: waits_of_tiers})
            system.run("topics", "apply")
            restart(scenario_run, *STAGES)


def fan_out_consumer(scenario_run: ScenarioRun, times: int, seconds: float) -> None:
    """Read events with librdkafka, under kills and with more processes, and then with Faust again."""
    with restless_customer(scenario_run):
        set_env(scenario_run, {CONSUMER: "librdkafka"})
        restart(scenario_run, "fan-out")
        for _ in range(times):
            scenario_run.hold_for(scenario_run.random.random())
            scenario_run.kill("fan-out")
        processes(scenario_run, seconds, stages=("fan-out",))
        set_env(scenario_run, {CONSUMER: "faust"})
        restart(scenario_run, "fan-out")


def processes(scenario_run: ScenarioRun, seconds: float, more: int = 2, stages: Sequence[str] = SHARED) -> None:
    """One process, more, and one again, of each stage that shares its work.

    What takes longer than the three seconds of a handover is repeated: on a slow machine a batch of events.
    """
    with ExitStack() as stack:
        extras = [stack.enter_context(scenario_run.member(f"extra-{number}")) for number in range(more)]
        for stage in stages:
            for number, extra in enumerate(extras, 1):
                # A member of a StatefulSet has a name.
                extra.launch(stage, SCORM_WEBHOOKS_INSTANCE_ID=f"{stage}-{number}")
        for stage in stages:
            for extra in extras:
                until(partial(extra.is_ready, stage), WAIT_SECONDS, f"another {stage} is ready")
        scenario_run.hold_for(seconds)
        for stage in stages:
            before, at = scenario_run.supervisor.progress(stage), time.time()
            for extra in extras:
                extra.send(stage, signal.SIGTERM)
            for extra in extras:
                until(lambda extra=extra, stage=stage: extra.exit_code(stage) is not None, 30, f"{stage} ends")  # type: ignore[misc]
                assert extra.exit_code(stage) == 0, f"{stage} ended with {extra.exit_code(stage)}"
            scenario_run.await_progress(stage, before, at)
    scenario_run.may_repeat(A_BATCH)
