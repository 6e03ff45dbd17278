"""KEDA's trigger on a real Prometheus: what KEDA would read there."""

from collections.abc import Iterator
from functools import partial

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

import parts
from chart.rendering import FULLNAME, NAMESPACE, render
from chart.test_scaling import OVERDUE, autoscaled, triggers_of
from conftest import left_out
from e2e.system import until
from real.process import free_ports
from real.prometheus import Prometheus

pytestmark = pytest.mark.real


@pytest.fixture
def late() -> Iterator[tuple[Gauge, int]]:
    """The gauge of several pods, and the port that serves it with the labels of a PodMonitor."""
    registry = CollectorRegistry()
    gauge = Gauge(OVERDUE, "How late.", ["namespace", "pod"], registry=registry)
    [port] = free_ports(1)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield gauge, port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    if not parts.prometheus():
        left_out("promtool")
    server = Prometheus(every="1s")
    yield server
    server.remove()


def test_keda_reads_the_lateness_of_the_latest_process(prometheus: Prometheus, late: tuple[Gauge, int]) -> None:
    gauge, port = late
    trigger = triggers_of(render(autoscaled("deliver", "keda")).find("ScaledObject", "deliver"))["prometheus"]
    ask = partial(prometheus.vector, trigger["metadata"]["query"])
    # Before the first process is read: KEDA takes no series for 0.
    assert ask() == []
    pods = {f"{FULLNAME}-deliver-0": 3, f"{FULLNAME}-deliver-7c9f-x2x4z": 12, f"{FULLNAME}-record-0": 40}
    for pod, seconds in pods.items():
        gauge.labels(NAMESPACE, pod).set(seconds)
    gauge.labels("another", f"{FULLNAME}-deliver-0").set(50)
    prometheus.watch({"all": port})
    until(lambda: len(prometheus.vector(OVERDUE)) == len(pods) + 1, 30, "each pod is read")
    # One series: KEDA refuses several.
    assert ask() == [12]
