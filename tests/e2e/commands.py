"""Runs commands and stages in processes that are forked from one with everything imported.

A command takes a second to import and a tenth to run, a stage two seconds, and tests start thousands of them. The
imports alone are shared: each has its own process, environment, folder and streams. `python commands.py SOCKET` is what
they fork from.
"""

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

PACKAGES = (
    "streams.cli",
    "scorm_webhooks_cli",
    "streams.features",
    "streams.stages",
    "streams.adapters",
    "streams.runtime",
    "api",
)
MODULES = ("sqlalchemy.dialects.postgresql.psycopg", "alembic")
ANSWER = struct.Struct("!i")
MAX_BYTES = 1 << 20
START_SECONDS = 60
COMMAND_SECONDS = 120

_KEPT: list["subprocess.Popen[bytes]"] = []


def run_forked(
    arguments: Sequence[str], env: Mapping[str, str], folder: Path, stdin: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """`python -m streams …`. Raises `subprocess.TimeoutExpired`."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        given.write((stdin or "").encode())
        given.seek(0)
        streams = [given.fileno(), output.fileno(), errors.fileno()]
        process = fork(arguments, env, folder, streams, keeps_memory=True)
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (output, errors)]
        return subprocess.CompletedProcess(list(arguments), code, *texts)


class ForkedProcess:
    """What tests use of `subprocess.Popen`, of a process that is not our child."""

    def __init__(self, pid: int, arguments: Sequence[str], connection: socket.socket) -> None:
        self.pid = pid
        self._arguments = arguments
        self._connection = connection
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self._code is None and select.select([self._connection], [], [], 0)[0]:
            (self._code,) = ANSWER.unpack(self._connection.recv(ANSWER.size))
            self._connection.close()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        if self._code is None:
            select.select([self._connection], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    arguments: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    streams: Sequence[int],
    *,
    keeps_memory: bool = False,
) -> ForkedProcess:
    """Start `python -m streams …`; `streams` are the descriptors of its standard streams.

    Python clears its memory at its end, which takes a command longer than its work. With `keeps_memory` it does not.
    """
    values = {"arguments": list(arguments), "env": dict(env), "folder": str(folder), "keeps_memory": keeps_memory}
    request = json.dumps(values).encode()
    assert len(request) < MAX_BYTES
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_server())
    socket.send_fds(connection, [request], streams)
    (pid,) = ANSWER.unpack(connection.recv(ANSWER.size))
    return ForkedProcess(pid, arguments, connection)


@cache
def _server() -> str:
    """Start the process to fork from; it ends with this one. The path of its socket."""
    path = str(Path(tempfile.mkdtemp(prefix="commands-")) / "socket")
    # Without the folder of this file in its path, and with as little of an environment as a command gets.
    command = [sys.executable, "-P", str(Path(__file__)), path]
    env = {"PATH": os.environ["PATH"]}
    server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert server.stdout
    assert select.select([server.stdout], [], [], START_SECONDS)[0], "nothing to fork from"
    assert server.stdout.readline() == b"ready\n"
    # It ends when its standard input is closed, so that is kept open.
    _KEPT.append(server)
    return path


def main() -> int:
    """Fork for each connection until standard input is closed."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if "migrations" not in module.name:
                importlib.import_module(module.name)
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    # Nobody waits for the processes that wait for commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin.fileno() not in select.select([listener, sys.stdin.fileno()], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _serve(connection)
            connection.close()
    shutil.rmtree(Path(sys.argv[1]).parent)
    return 0


def _serve(connection: socket.socket) -> int:
    """Run one command in a process, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(connection, MAX_BYTES, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        return _run(streams, **json.loads(request))
    connection.send(ANSWER.pack(pid))
    _, status = os.waitpid(pid, 0)
    connection.send(ANSWER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _run(
    streams: Sequence[int], arguments: Sequence[str], env: Mapping[str, str], folder: str, keeps_memory: bool
) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), "utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8", line_buffering=number == 2)
        for number in (1, 2)
    )
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ["streams", *arguments]
    try:
        runpy.run_module("streams", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if keeps_memory and isinstance(end.code, int | None):
            _end(end.code or 0)
        raise
    if keeps_memory:
        _end(0)
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does, in its order, but for its memory."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
