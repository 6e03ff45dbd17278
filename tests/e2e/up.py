"""`up` as a process, on an embedded broker or on a real one."""

import os
import pty
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.system import System, until
from real.process import free_ports


@contextmanager
def running_up(
    folder: Path, env: dict[str, str], end: signal.Signals = signal.SIGTERM, options: Sequence[str] = ()
) -> Iterator[tuple[System, "subprocess.Popen[bytes]"]]:
    """Run `up` in its own data directory; end it by SIGTERM (exit code 0) or another signal."""
    system = _system(folder, env)
    with (folder / "up.log").open("ab") as log, (folder / "up.out").open("ab") as output:
        command = [sys.executable, "-m", "streams", "up", *options]
        running = subprocess.Popen(command, env=system.env, cwd=folder, stdout=output, stderr=log)
    try:
        yield system, running
    finally:
        running.send_signal(end)
        assert running.wait(timeout=40) == (0 if end is signal.SIGTERM else -end)


def _system(folder: Path, env: dict[str, str]) -> System:
    [port] = free_ports(1)
    ports = {"SCORM_WEBHOOKS_HEALTH_PORT": str(port), "SCORM_WEBHOOKS_API_PORT": "0"}
    system = System(folder, {**ports, **env})
    if "KAFKA_BOOTSTRAP_SERVERS" not in env:
        del system.env["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]
    return system


@contextmanager
def up_on_a_terminal(folder: Path, env: dict[str, str]) -> Iterator[Callable[[], str]]:
    """Run `up` with a terminal for its output; end it by SIGTERM. Yields a function that returns what it printed."""
    system = _system(folder, env)
    for name in ("SCORM_WEBHOOKS_LOG_FORMAT", "SCORM_WEBHOOKS_LOG_LEVEL"):
        system.env.pop(name, None)
    printed = bytearray()
    ours, its = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "streams", "up"], env=system.env, cwd=folder, stdout=its, stderr=its
    )
    os.close(its)

    def read() -> None:
        # The terminal is gone with its last process.
        with suppress(OSError):
            while data := os.read(ours, 4096):
                printed.extend(data)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield lambda: bytes(printed).decode().replace("\r\n", "\n")
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=40) == 0
        reading.join()
        os.close(ours)


def reasons(system: System) -> str:
    """Why `up` is not ready; empty if it is."""
    try:
        url = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_HEALTH_PORT']}/readyz"
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)
    return ""


def is_ready(system: System) -> bool:
    return reasons(system) == ""


def await_ready(system: System, seconds: float = 90) -> None:
    """Wait until every stage is ready. Each look asks ten processes, which costs more than a start if it is often."""
    until(lambda: is_ready(system), seconds, lambda: reasons(system), every=0.3)
