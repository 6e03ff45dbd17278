"""The port of `up` serves the metrics of its stages, and the alerts work on them."""

import os
import re
import signal
import urllib.request
from collections.abc import Iterator

import pytest

import parts
from conftest import left_out
from e2e.receiver import Receiver
from e2e.system import System, until
from e2e.test_up import child_of, updated
from e2e.up import await_ready, running_up
from real.prometheus import Prometheus
from streams.runtime.startup import STAGES

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def pid_and_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, System]]:
    with running_up(tmp_path_factory.mktemp("up"), {}) as (system, running):
        await_ready(system)
        yield running.pid, system


def metrics_of(system: System) -> str:
    url = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_HEALTH_PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def total(system: System, name: str, stage: str) -> float:
    """The sum of a metric over the other labels of a stage."""
    samples = re.findall(rf"^scorm_webhooks_{name}\{{(.*)\}} (\S+)$", metrics_of(system), re.MULTILINE)
    return sum(float(value) for labels, value in samples if f'stage="{stage}"' in labels)


def test_the_port_of_up_counts_what_its_stages_do(pid_and_up: tuple[int, System], receiver: Receiver) -> None:
    _, system = pid_and_up
    account = system.account()
    system.webhook(account, receiver.url("/crm"))
    system.run("events", "publish", "-", stdin=updated(account, 1))
    until(lambda: receiver.ids("/crm") == ["evt_1"], 30, "the event at the customer")
    until(lambda: total(system, "attempts_total", "deliver") == 1, 10, "the attempt is counted")
    until(lambda: total(system, "deliveries_created_total", "fan-out") == 1, 10, "the delivery is counted")
    assert all(total(system, "ready", stage) == 1 for stage in STAGES)
    assert total(system, "attempts_total", "record") == 0
    assert metrics_of(system).count("# TYPE scorm_webhooks_attempts_total") == 1


@pytest.mark.real
def test_the_alerts_work_on_a_prometheus_that_reads_up(pid_and_up: tuple[int, System]) -> None:
    if not parts.prometheus():
        left_out("promtool")
    pid, system = pid_and_up
    prometheus = Prometheus(every="3s")
    try:
        prometheus.watch({"up": int(system.env["SCORM_WEBHOOKS_HEALTH_PORT"])})
        until(lambda: prometheus.value("scorm_webhooks_ready") == len(STAGES), 30, "each stage is ready")
        until(lambda: not prometheus.rule_errors(), 60, lambda: str(prometheus.rule_errors()))
        until(lambda: not prometheus.pending(), 60, lambda: str(prometheus.pending()))
        deliver = child_of(pid, "deliver")
        # Frozen, it does not answer: its series end, and the others go on.
        os.kill(deliver, signal.SIGSTOP)
        try:
            down = ("ScormWebhooksStageDown", "deliver")
            until(lambda: down in prometheus.pending(), 60, lambda: str(prometheus.pending()))
            assert {stage for _, stage in prometheus.pending()} <= {"deliver", ""}
        finally:
            os.kill(deliver, signal.SIGCONT)
        until(lambda: down not in prometheus.pending(), 60, lambda: str(prometheus.pending()))
    finally:
        prometheus.remove()
