"""A receiver of `examples/` as a process of its own, which the test may kill."""

import json
import os
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from builders import SECRET
from e2e.system import until
from examples.events import Event
from real.process import Process, free_ports

RECEIVERS = Path(__file__).parents[2] / "examples" / "receivers"


class Program:
    """Runs with `env` and PATH only, in a folder of its own."""

    def __init__(self, name: str, folder: Path, env: Mapping[str, str], command: Sequence[str | Path] = ()) -> None:
        self.name = name
        self.folder = folder
        [self.port] = free_ports(1)
        self.env = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder), "PORT": str(self.port), **env}
        self._command = [*command] or [sys.executable, RECEIVERS / f"{name}.py"]
        self._process: Process | None = None

    def start(self, **env: str) -> None:
        """Start it and wait until it listens."""
        self.env |= env
        settings = [f"{name}={value}" for name, value in self.env.items()]
        self._process = Process(["env", "-i", *settings, *self._command], self.folder / f"{self.name}.log")
        self._process.wait_until(self._listens)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.end(signal.SIGKILL)
        self._process = None

    def forget_last(self) -> None:
        """Make the inbox as if the process had died after its last work, before it noted that."""
        with closing(sqlite3.connect(self.folder / "inbox.sqlite", isolation_level=None)) as inbox:
            inbox.execute("UPDATE inbox SET done_at = NULL WHERE done_at = (SELECT max(done_at) FROM inbox)")

    def stop(self) -> None:
        if self._process is not None:
            self._process.end(signal.SIGTERM)
            self._process = None

    def post(self, event: Event, secret: str = SECRET) -> int:
        """Post an event, signed; the status of the response."""
        body = json.dumps(event)
        now = datetime.now(UTC)
        signature = Webhook(secret).sign(event["id"], now, body)
        headers = {
            "webhook-id": event["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def done(self) -> int:
        """The number of events whose work is done."""
        return self._count("done_at IS NOT NULL")

    def stored(self) -> int:
        """The number of events in the inbox."""
        return self._count("TRUE")

    def wait_for(self, events: int, seconds: float = 90) -> None:
        """Wait until the inbox has exactly these events, all done."""

        def state() -> str:
            return f"{self.done()} of {events} done, {self.stored()} stored; the log is {self.log()[-2000:]}"

        until(lambda: self.done() == events, seconds, state)
        assert self.stored() == events

    def wait_for_failure(self, event_id: str) -> None:
        """Wait until the work for an event has failed."""
        assert event_id.isidentifier()
        until(lambda: self._count(f"failures > 0 AND id = '{event_id}'") == 1, 60, self.log)

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    def _count(self, condition: str) -> int:
        with closing(sqlite3.connect(self.folder / "inbox.sqlite", timeout=30)) as inbox:
            return int(inbox.execute(f"SELECT count(*) FROM inbox WHERE {condition}").fetchone()[0])

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
