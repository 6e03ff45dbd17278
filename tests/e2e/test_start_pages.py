"""The first pages of the documentation do what they say: their commands run as they are written."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import parts
from builders import SECRET
from chart.rendering import helm
from conftest import left_out
from e2e.receiver import Receiver
from e2e.system import until
from e2e.up import await_ready, running_up
from kube.documented import commands as tried_on_kubernetes
from real.process import free_ports

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAM = ".venv/bin/scorm-webhooks"
INTEGRATOR, OPERATOR, PLATFORM = (
    (ROOT / "docs" / f"start-{name}.md").read_text() for name in ("integrator", "operator", "platform")
)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


# -- a visitor -------------------------------------------------------------------------------------------------


def test_your_own_post_of_the_readme_is_held(tmp_path: Path) -> None:
    [block] = [block for block in blocks(README, "sh") if "/v1/events" in block]
    start, *lines = block.splitlines()
    assert start == f"{PROGRAM} up"
    assert len(lines) <= 4
    [port] = free_ports(1)
    with running_up(tmp_path, {"SCORM_WEBHOOKS_API_PORT": str(port)}) as (system, _):
        await_ready(system)
        script = "\n".join(lines).replace("8080", str(port)).replace(PROGRAM, f"{sys.executable} -m streams")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=system.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert f"http://127.0.0.1:{port}/sign-in/" in done.stdout
        until(lambda: "held pull" in system.attempt("deliveries", "list").stdout, 30)


# -- you publish events ----------------------------------------------------------------------------------------


def test_an_event_of_the_page_reaches_a_server(tmp_path: Path) -> None:
    start, *others = blocks(PLATFORM, "sh")
    exports = dict(re.findall(r"(SCORM_WEBHOOKS_\w+)=(\S+)", start))
    assert "scorm-webhooks up\n" in start
    assert exports.keys() == {"SCORM_WEBHOOKS_ALLOW_HTTP", "SCORM_WEBHOOKS_ALLOWED_NETWORKS"}
    with running_up(tmp_path, exports) as (system, _), listening() as receiver:
        await_ready(system)
        script = "\n".join(others).replace("http://127.0.0.1:9000/hook", receiver.url("/hook"))
        assert receiver.url("/hook") in script
        # The commands are those of this environment.
        env = {**system.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        until(lambda: receiver.requests, 30)
        assert receiver.requests[0].headers["webhook-id"] == "evt_1"
        shown = re.findall(r"`scorm-webhooks (deliveries show evt_1)`", PLATFORM)[0].split()
        until(lambda: "delivered" in system.attempt(*shown).stdout, 30)


@contextmanager
def listening() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


# -- you receive webhooks --------------------------------------------------------------------------------------


def test_the_receiver_of_the_page_passes_the_exam(tmp_path: Path) -> None:
    [program] = blocks(INTEGRATOR, "python")
    [port] = free_ports(1)
    assert '("127.0.0.1", 3000)' in program
    (tmp_path / "receiver.py").write_text(program.replace("3000", str(port)))
    # `SECRET=whsec_… python receiver.py` of the page.
    env = {**os.environ, "SECRET": SECRET}
    with (tmp_path / "output").open("w") as output:
        running = subprocess.Popen([sys.executable, "-u", tmp_path / "receiver.py"], env=env, stdout=output)
    try:
        [command] = [line for line in "".join(blocks(INTEGRATOR, "sh")).splitlines() if " exam " in line]
        words = command.replace("3000", str(port)).replace("whsec_…", SECRET).split()

        def exam() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [sys.executable, "-m", "streams", *words[1:]], cwd=ROOT, capture_output=True, text=True
            )

        # Exit code 3: nothing listens yet.
        until(lambda: exam().returncode != 3, 60)
        done = exam()
        assert done.returncode == 0, done.stdout
    finally:
        running.terminate()
        running.wait(timeout=20)
    assert "session.completed" in (tmp_path / "output").read_text()


# -- you run the system ----------------------------------------------------------------------------------------


def test_the_commands_of_kubernetes_are_the_tried_ones() -> None:
    lines = [line for line in "".join(blocks(OPERATOR, "sh")).splitlines() if line.startswith(("kubectl ", "helm "))]
    assert len(lines) >= 5
    # `make kube` runs those of docs/kubernetes.md on a cluster.
    assert [line for line in lines if line not in tried_on_kubernetes()] == []


@pytest.mark.slow
def test_the_installation_of_the_page_renders() -> None:
    if parts.kube() is None:
        left_out("helm")
    [install] = [line for line in "".join(blocks(OPERATOR, "sh")).splitlines() if line.startswith("helm install")]
    done = helm("template", *install.split()[2:], chart=ROOT)
    assert done.returncode == 0, done.stderr
