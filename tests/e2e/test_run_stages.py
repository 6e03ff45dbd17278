"""Several stages in one process: `scorm-webhooks run`."""

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import System, until
from real.postgres import Postgres
from streams.runtime.background import BACKGROUND_NAME, BACKGROUND_STAGES

pytestmark = pytest.mark.e2e

NOWHERE = "127.0.0.1:1"
EVENTS = 20


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The small deployment, without `api`."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("background")):
        system.start((BACKGROUND_NAME, "fan-out", "deliver", "record"))
        yield system


def value(system: System, metric: str, stage: str) -> float:
    """The value of a metric without labels of its own, of one stage."""
    found = re.search(
        rf'^scorm_webhooks_{metric}\{{stage="{stage}"\}} (\S+)$', system.metrics(BACKGROUND_NAME), re.MULTILINE
    )
    assert found, f"{metric} of {stage}"
    return float(found[1])


def events_of(system: System, event: str) -> list[str]:
    """The stages that logged an event, in order."""
    return [line["stage"] for line in system.log_events(BACKGROUND_NAME) if line["event"] == event]


def test_readyz_names_each_stage_that_is_not_ready(tmp_path: Path) -> None:
    database = f"postgresql://nobody@{NOWHERE}/nothing"
    system = System(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": NOWHERE, "DATABASE_URL": database})
    try:
        system.launch(BACKGROUND_NAME)
        expected = {
            **dict.fromkeys(("publish", "meter", "maintain"), f"KAFKA_BOOTSTRAP_SERVERS is {NOWHERE}"),
            "notify": "DATABASE_URL",
        }

        def is_named() -> bool:
            lines = [line.split(": ", 1) for line in system.problem(BACKGROUND_NAME).splitlines() if ": " in line]
            problems = {stage: cause for stages, cause in lines for stage in stages.split(", ")}
            return all(text in problems.get(stage, "") for stage, text in expected.items())

        until(is_named, 20, lambda: system.problem(BACKGROUND_NAME))
        assert system.stop(BACKGROUND_NAME) == 0
        assert "Traceback" not in system.log(BACKGROUND_NAME)
    finally:
        system.close()


@pytest.mark.parametrize("options", [("--stages", "publish,api"), ("--stages", "publish,publish"), ("--stages", "")])
def test_a_wrong_list_is_one_line_and_exit_code_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = System(tmp_path, {}).attempt("run", *options)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "--stages: " in done.stderr


def test_a_misconfigured_stage_ends_the_process_as_alone(tmp_path: Path) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": NOWHERE, "DATABASE_URL": "mysql://127.0.0.1/name"}
    system = System(tmp_path, env)
    try:
        system.launch(BACKGROUND_NAME)
        until(lambda: system.exit_code(BACKGROUND_NAME) is not None, 20, "the end")
        assert system.exit_code(BACKGROUND_NAME) == 2
        assert system.log_events(BACKGROUND_NAME)[-1]["event"] == "misconfigured"
    finally:
        system.close()


def test_the_stages_do_their_work_side_by_side(running: System, receiver: Receiver) -> None:
    prefix = running.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    platform = Platform(running.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")
    account = running.account()
    webhook = str(running.webhook(account, receiver.url("/crm"))["id"])
    for number in range(EVENTS):
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"evt_{number}")
    platform.flush()
    until(lambda: running.states(webhook) == {"delivered": EVENTS}, 60, lambda: str(running.states(webhook)))
    # Their month is closed.
    until(lambda: value(running, "usage_late_launches_total", "meter") == EVENTS, 30, "meter counts")
    assert value(running, "usage_late_launches_total", "publish") == 0
    # A replay is a job of `maintain`, whose held deliveries `publish` releases.
    running.run("deliveries", "replay", webhook, "--since", "2026-04-10T00:00:00Z", "--yes", "--json")
    until(lambda: len(receiver.at("/crm")) == 2 * EVENTS, 60, "sent again")


def test_each_metric_has_the_label_of_its_stage(running: System) -> None:
    until(lambda: value(running, "publisher", "publish") == 1, 20, "publish has its lease")
    until(lambda: value(running, "maintainer", "maintain") == 1, 20, "maintain has its lease")
    assert [value(running, "publisher", stage) for stage in ("meter", "notify", "maintain")] == [0, 0, 0]
    assert {value(running, "ready", stage) for stage in (BACKGROUND_NAME, *BACKGROUND_STAGES)} == {1}
    lines = running.metrics(BACKGROUND_NAME).splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert [line for line in series if 'stage="' not in line] == []
    kinds = [line for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))


def test_a_lost_lease_restarts_that_stage_alone(running: System) -> None:
    until(lambda: value(running, "publisher", "publish") == 1, 20, "publish has its lease")
    pid, name = running.pid(BACKGROUND_NAME), f"{running.env['SCORM_WEBHOOKS_TOPIC_PREFIX']}publish"
    takes = (
        "UPDATE leases SET holder = %(holder)s, expires_at = now() + interval '6 s' WHERE name = %(name)s RETURNING 1"
    )
    assert running._rows(takes, holder="rival", name=name)
    until(
        lambda: events_of(running, "stage_restarted") == ["publish"], 20, lambda: running.log(BACKGROUND_NAME)[-3000:]
    )
    until(lambda: value(running, "publisher", "publish") == 0, 5, "publish waits for the lease")
    assert value(running, "maintainer", "maintain") == 1
    until(lambda: value(running, "publisher", "publish") == 1, 30, "publish works again")
    assert running.webhook(running.account(), "http://127.0.0.1:1/again")["propagated"]
    assert (running.pid(BACKGROUND_NAME), running.exit_code(BACKGROUND_NAME)) == (pid, None)
    assert events_of(running, "stage_restarted") == ["publish"]


def test_a_stop_drains_every_stage(running: System) -> None:
    until(partial(running.is_ready, BACKGROUND_NAME), 30, "ready")
    running.send(BACKGROUND_NAME, signal.SIGTERM)
    until(lambda: running.exit_code(BACKGROUND_NAME) is not None, 30, "the end")
    assert running.exit_code(BACKGROUND_NAME) == 0
    assert sorted(events_of(running, "drained")) == sorted(BACKGROUND_STAGES)
    assert events_of(running, "stopped") == [BACKGROUND_NAME]
    ours = f"{running.env['SCORM_WEBHOOKS_TOPIC_PREFIX']}%"
    assert running._rows("SELECT name FROM leases WHERE name LIKE %(ours)s", ours=ours) == []
