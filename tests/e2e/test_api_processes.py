"""Several processes of `api` share a port; one that is killed starts again, and the others go on."""

import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.system import System, until
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.e2e

PROCESSES = 3


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Three processes of `api`."""
    [port] = free_ports(1)
    folder = tmp_path_factory.mktemp("api")
    for system in prepared(kafka, postgres, random_prefix(), folder, SCORM_WEBHOOKS_API_PORT=str(port)):
        system.launch("api", "--processes", str(PROCESSES))
        until(partial(system.is_ready, "api"), 60, "one process is ready")
        until(partial(all_answer, system), 60, "all processes answer")
        yield system


ALL = {f"api-{number}" for number in range(1, PROCESSES + 1)}


def ask(system: System) -> int:
    """The status of a request without a key, on a connection of its own."""
    try:
        address = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_API_PORT']}/v1/webhooks"
        return int(urllib.request.urlopen(address, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0  # no process listens yet


def answered(system: System) -> dict[str, float]:
    """Ask twenty times; then the requests that each process has answered so far."""
    for _ in range(20):
        ask(system)
    counts = re.findall(
        r'^scorm_webhooks_api_requests_total\{(?=.*status="401").*process="([^"]+)".*\} (\S+)$',
        system.metrics("api"),
        re.MULTILINE,
    )
    return {process: float(count) for process, count in counts}


def all_answer(system: System) -> bool:
    return set(answered(system)) == ALL


def children(system: System) -> list[int]:
    pid = system.pid("api")
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_each_process_answers_and_has_its_metrics(running: System) -> None:
    assert running.problem("api") == ""
    text = running.metrics("api")
    assert text.count("# TYPE scorm_webhooks_api_requests_total") == 1
    ready = re.compile(r"^scorm_webhooks_ready\{.*\} 1", re.MULTILINE)
    until(lambda: len(ready.findall(running.metrics("api"))) == PROCESSES, 10, "all processes are ready")


def test_a_killed_process_starts_again_and_the_others_go_on(running: System) -> None:
    first = children(running)[0]
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in children(running), 10, "the end of a process")
    assert {ask(running) for _ in range(50)} == {401}
    assert running.problem("api") == ""
    until(lambda: len(children(running)) == PROCESSES and all_answer(running), 60, "all processes")
    assert [line["child"] for line in running.log_events("api") if line["event"] == "stage_ended"] == ["api-1"]


def test_sigterm_ends_all(running: System) -> None:
    before = children(running)
    assert running.stop("api") == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    assert ask(running) == 0


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
        system = System(tmp_path, {**nowhere, "SCORM_WEBHOOKS_API_PORT": port})
        try:
            system.launch("api", "--processes", "2")
            until(lambda: system.exit_code("api") is not None, 20, "the end")
            assert system.exit_code("api") == 2
            [line] = system.log("api").splitlines()
            assert f"SCORM_WEBHOOKS_API_PORT: cannot listen on 127.0.0.1:{port}" in line
        finally:
            system.close()
