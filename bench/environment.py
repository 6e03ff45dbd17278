"""The environment of a run: the machine, Python and the commit."""

import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).parents[1]


class Machine(TypedDict):
    """`filesystem` holds the servers' data: on tmpfs a flush to disk is free."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    filesystem: str


class Environment(TypedDict):
    """`dirty`: the tree had uncommitted changes, other than kept results.

    Outside of a Git checkout the commit is `unknown`.
    """

    machine: Machine
    python: str
    commit: str
    dirty: bool


def environment() -> Environment:
    """Read the environment from this machine and its Git checkout."""
    return {"machine": _machine(), "python": platform.python_version(), "commit": _commit(), "dirty": _is_dirty()}


def _machine() -> Machine:
    kilobytes = int(_proc_field("meminfo", "MemTotal").split()[0])
    return {
        "cpu": _proc_field("cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(kilobytes / 1024**2, 1),
        "kernel": platform.release(),
        "filesystem": _filesystem(Path(tempfile.gettempdir()).resolve()),
    }


def _proc_field(file: str, name: str) -> str:
    """The first value of a `name: value` line; some processors have no model name."""
    for line in Path("/proc", file).read_text().splitlines():
        found, _, value = line.partition(":")
        if found.strip() == name:
            return value.strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    # A later mount at the same place hides the earlier one.
    _, kind = max(reversed([mount for mount in mounts if folder.is_relative_to(mount[0])]), key=lambda m: len(m[0]))
    return kind


def _commit() -> str:
    return _git("rev-parse", "HEAD")


def _is_dirty() -> bool:
    return bool(_git("status", "--porcelain", "--", ".", ":!bench/results"))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
