"""Run PostgreSQL on a loopback port, in the version of this machine."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import psycopg

import parts
from real.process import Process, free_ports

# Without fsync, a killed server process loses nothing, which is enough for tests.
FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB", "max_connections": "200"}
# A committed transaction survives a power failure.
PRODUCTION = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_connections": "200"}


# The role of the stages: it owns nothing, and gets its rights by `db upgrade --grant-to`.
ROLE = "stages"


class Postgres:
    """Runs from its creation. `stop` and `start` keep its data and port."""

    def __init__(self, settings: Mapping[str, str] = FAST) -> None:
        self._settings = settings
        programs = parts.postgres()
        assert programs, "tests/parts.py brings PostgreSQL"
        self._programs: Path = programs
        self._user = other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: Process | None = None
        (self._port,) = free_ports(1)
        self._initialise()
        self.start()
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())

    def url(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid4().hex[:12]}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._address(name)

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        assert self._process is None, "it runs"
        options = [word for key, value in self._settings.items() for word in ("-c", f"{key}={value}")]
        where = ["-D", str(self._folder / "data"), "-p", str(self._port), "-h", "127.0.0.1", "-k", ""]
        command: list[str | Path] = [self._programs / "postgres", *where, *options]
        self._process = Process(command, log=self._folder / "postgres.log", user=self._user)
        self._process.wait_until(self._answers)

    @property
    def pid(self) -> int:
        assert self._process, "it does not run"
        return self._process.pid

    def stop(self) -> None:
        """Stop it without waiting for its clients, as in a failover."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        # A thousand databases are 300 000 files, which take a minute: nobody waits for it.
        subprocess.Popen(["rm", "-rf", self._folder], start_new_session=True)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process:
            self._process.end(with_signal)
        self._process = None

    def _initialise(self) -> None:
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        command: list[str | Path] = [self._programs / "initdb", "-D", self._folder / "data", *options]
        groups: list[str] | None = None if self._user is None else []
        subprocess.run(command, check=True, capture_output=True, user=self._user, extra_groups=groups, cwd=self._folder)

    def _address(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


def of_role(url: str) -> str:
    """The URL of the same database for the role of the stages."""
    return url.replace("postgresql://postgres@", f"postgresql://{ROLE}@")


def other_user() -> str | None:
    """The user of the server: another one than root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
