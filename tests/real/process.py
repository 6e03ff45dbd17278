"""A server process that ends with the test session, even by kill -9."""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Reads our pipe, which closes when this process ends, even by kill -9. Then it kills the process group.
WATCHER = 'read -r _; kill -s KILL -- "-$0"'
PATIENCE_SECONDS = 60.0

_GIVEN: set[int] = set()
_SHARED = (Path(tempfile.gettempdir()) / f"scorm-webhooks-ports-{os.getuid()}").open("ab")


class Process:
    """A server in its own process group. Its output goes to a file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        groups: list[str] | None = None if user is None else []
        with log.open("ab") as output:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
                extra_groups=groups,
                env=env,
            )
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCHER, str(self._server.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    @property
    def pid(self) -> int:
        return self._server.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise RuntimeError(f"not ready: {self._server.args!r}\n{self._log.read_text()[-4000:]}")
            time.sleep(0.02)

    def end(self, with_signal: signal.Signals) -> int:
        """Stop the server and wait; return its exit code. Kill it if it ignores the signal."""
        if with_signal == signal.SIGKILL:
            self._kill()
        else:
            self._server.send_signal(with_signal)
        try:
            self._server.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._server.wait()
        self._watcher.kill()
        self._watcher.communicate()
        return self._server.returncode

    def _kill(self) -> None:
        """Kill it with its children. Those of PostgreSQL leave the group and hold its memory for a moment."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            family = [int(child) for child in children.read_text().split()]
            os.killpg(self.pid, signal.SIGKILL)
            for child in family:
                os.kill(child, signal.SIGKILL)


def heed_ctrl_c() -> None:
    """As `preexec_fn` of a child that gets SIGINT: a run in the background ignores it, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_ports(count: int) -> list[int]:
    """Free ports, below the range from which the kernel assigns ports to clients.

    Nor does another process of these tests, which may look for one before this one's server listens.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        if port not in _GIVEN and _is_ours(port) and _is_free(port):
            _GIVEN.add(port)
            ports.append(port)
    return ports


def _is_ours(port: int) -> bool:
    """Lock the port's byte of a shared file. The kernel releases it when this process ends."""
    try:
        fcntl.lockf(_SHARED, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
