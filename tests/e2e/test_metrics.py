"""What a running deployment exposes of itself."""

import re
import signal

import pytest

from e2e.system import STAGES, System, until

pytestmark = pytest.mark.e2e


def sample(system: System, stage: str, name: str) -> dict[str, float]:
    """The values of a metric, by its labels as written."""
    found = re.findall(rf"^scorm_webhooks_{name}(?:\{{(.*)\}})? (\S+)$", system.metrics(stage), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


@pytest.mark.parametrize("stage", STAGES)
def test_each_process_says_what_it_is_and_how_it_does(running: System, stage: str) -> None:
    [build] = sample(running, stage, "build_info")
    assert re.fullmatch(r'python="3\.\d+\.\d+\S*",version="[\d.]+\S*"', build)
    until(lambda: "" in sample(running, stage, "event_loop_lag_seconds"), 10, "the event loop is measured")
    assert sample(running, stage, "commit_errors_total") == {"": 0}


@pytest.mark.parametrize("stage", ["fan-out", "deliver", "record"])
def test_assignments_of_partitions_are_counted(running: System, stage: str) -> None:
    until(lambda: running.metric(stage, "rebalances_total") >= 1, 10, "partitions are assigned")


def test_a_stage_with_a_database_says_how_full_its_pool_is(running: System) -> None:
    size = running.metric("publish", "database_pool_size")
    connections = sample(running, "publish", "database_connections")
    assert size >= sum(connections.values()) >= 1
    assert connections.keys() == {'state="in_use"', 'state="idle"'}


def test_one_process_publishes_and_one_maintains(running: System) -> None:
    every = (*STAGES, "maintain")
    assert [running.metric(stage, "publisher") for stage in every] == [1, 0, 0, 0, 0]
    assert [running.metric(stage, "maintainer") for stage in every] == [0, 0, 0, 0, 1]


def test_maintain_exposes_what_waits_everywhere(running: System) -> None:
    account = running.account()
    running.webhook(account, "http://127.0.0.1:1/nobody")
    until(lambda: sample(running, "maintain", "webhooks").get('status="active"', 0) >= 1, 40, "webhooks are counted")
    groups = {'group="fan-out",topic="session-events"', 'group="deliver",topic="deliveries"'}
    until(lambda: groups <= sample(running, "maintain", "group_lag_records").keys(), 40, "the lags of the groups")
    assert groups <= sample(running, "maintain", "group_lag_seconds").keys()


def test_the_lag_of_a_stage_that_stands_still_grows(running: System) -> None:
    name = 'group="record",topic="deliveries.test"'
    account = running.account()
    webhook = str(running.webhook(account, "http://127.0.0.1:1/nobody")["id"])
    running.send("record", signal.SIGSTOP)
    try:
        running.launch_command("webhooks", "test", webhook)
        until(lambda: sample(running, "maintain", "group_lag_records").get(name, 0) >= 1, 60, "a record of lag")
        until(lambda: sample(running, "maintain", "group_lag_seconds")[name] > 0, 60, "seconds of lag")
    finally:
        running.send("record", signal.SIGCONT)
    until(lambda: sample(running, "maintain", "group_lag_seconds")[name] == 0, 60, "no lag")


def test_the_clocks_are_compared(running: System) -> None:
    assert abs(running.metric("deliver", "clock_skew_seconds")) < 5
