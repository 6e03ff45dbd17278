"""What the tests of the cluster stand on, without a cluster."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import parts
from kube.happening import Happening
from kube.namespaces import run_inside
from kube.pods import End, end_of

TESTS = Path(__file__).parents[1]
# As `make kube` has it.
PYTHON_PATH = f"{TESTS}:{TESTS.parent / 'tools'}"
as_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2")


def run_without_programs(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """`make kube` where `make kube-binaries` did not run."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH, "XDG_CACHE_HOME": str(folder), **env}
    return subprocess.run([sys.executable, "-m", "kube"], env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("ci", "code"), [("false", 1), ("true", 0)])
def test_missing_programs_are_one_line(tmp_path: Path, ci: str, code: int) -> None:
    done = run_without_programs(tmp_path, CI=ci)
    [line] = done.stdout.splitlines()
    assert "kubelet" in line
    assert "make kube-binaries" in line
    assert (done.returncode, done.stderr) == (code, "")


def test_the_build_makes_every_program() -> None:
    build = (TESTS / "kube" / "build.sh").read_text()
    assert [program for program in parts.KUBE_PROGRAMS if program not in build] == []


@as_root
@pytest.mark.real
def test_a_command_inside_has_its_own_network_and_code(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    assert run_inside(["sh", "-c", f"ls /sys/class/net /proc/sys/net/ipv4/conf >{seen}; exit 7"], tmp_path) == 7
    assert "node0" in seen.read_text()
    assert not Path("/proc/sys/net/ipv4/conf/node0").exists()


@as_root
@pytest.mark.real
def test_the_kubelet_finds_the_kernel_as_it_wants(tmp_path: Path) -> None:
    before = Path("/proc/sys/kernel/panic").read_text()
    assert run_inside(["grep", "-qx", "10", "/proc/sys/kernel/panic"], tmp_path) == 0
    assert Path("/proc/sys/kernel/panic").read_text() == before


def test_an_end_has_its_code_and_its_seconds() -> None:
    pod = {
        "metadata": {
            "name": "deliver-0",
            "labels": {"app.kubernetes.io/component": "deliver"},
            "deletionTimestamp": "2026-04-10T14:32:45Z",
            "deletionGracePeriodSeconds": 45,
        },
        "status": {
            "containerStatuses": [{"state": {"terminated": {"exitCode": 3, "finishedAt": "2026-04-10T14:32:07Z"}}}]
        },
    }
    assert end_of(pod) == End("deliver-0", "deliver", 3, 7.0)


@pytest.mark.parametrize(("stage", "seconds", "unexplained"), [("deliver", 1, 4), ("deliver", 3, 0), ("record", 36, 4)])
def test_only_a_deliver_that_ran_out_of_time_may_repeat(stage: str, seconds: float, unexplained: int) -> None:
    happening = Happening("upgrade")
    happening.repeated, happening.ends = 4, [End(f"{stage}-0", stage, 0, seconds)]
    assert happening.unexplained() == unexplained
