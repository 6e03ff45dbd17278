"""Run tinyproxy, an HTTP proxy of Debian, on a loopback port."""

import shutil
import signal
import socket
import tempfile
from pathlib import Path

import parts
from real.process import Process, free_ports

HOST = "127.0.0.1"
CREDENTIALS = "scorm:a-proxy-password"
CONFIG = """\
Listen {host}
Port {port}
MaxClients 100
Timeout 60
LogFile "{folder}/requests"
LogLevel Info
BasicAuth {user} {password}
"""


class Tinyproxy:
    """Runs from its creation, on this port or a free one. Each request needs `CREDENTIALS`."""

    def __init__(self, port: int | None = None) -> None:
        program = parts.tinyproxy()
        assert program, "tests/parts.py brings tinyproxy"
        self._folder = Path(tempfile.mkdtemp(prefix="tinyproxy-"))
        self.port = port or free_ports(1)[0]
        user, _, password = CREDENTIALS.partition(":")
        config = CONFIG.format(host=HOST, port=self.port, folder=self._folder, user=user, password=password)
        (self._folder / "config").write_text(config)
        self._process = Process([program, "-d", "-c", self._folder / "config"], self._folder / "log")
        self._process.wait_until(self._listens)

    @property
    def requests(self) -> list[str]:
        """The request lines so far."""
        lines = (self._folder / "requests").read_text().splitlines()
        return [line.partition("): ")[2] for line in lines if "Request (" in line]

    def remove(self) -> None:
        self._process.end(signal.SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True
