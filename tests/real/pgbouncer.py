"""Run PgBouncer in transaction mode on a loopback port, before a PostgreSQL of this machine."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

import parts
from real.postgres import ROLE, Postgres, other_user
from real.process import Process, free_ports

# Two sessions of PostgreSQL, so that a client's transactions do not all run in the same one, in turn.
CONFIG = """\
[databases]
* = host=127.0.0.1 port={postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_round_robin = 1
auth_type = trust
auth_file = {folder}/users
admin_users = postgres
"""


class PgBouncer:
    """Runs from its creation."""

    def __init__(self, postgres: Postgres, sessions: int = 2) -> None:
        program, libraries = parts.pgbouncer(), parts.pgbouncer_libraries()
        assert program, "tests/parts.py brings PgBouncer"
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        (self._port,) = free_ports(1)
        config = CONFIG.format(postgres_port=postgres.port, port=self._port, folder=self._folder, sessions=sessions)
        (self._folder / "config").write_text(config)
        (self._folder / "users").write_text(f'"postgres" ""\n"{ROLE}" ""\n')
        user = other_user()
        if user:
            shutil.chown(self._folder, user)
        env = {**os.environ, **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})}
        self._process = Process([program, self._folder / "config"], self._folder / "log", user, env)
        self._process.wait_until(self._answers)

    def before(self, url: URL) -> URL:
        """The URL of the same database, by way of this pooler."""
        return url.set(port=self._port)

    def reconnect(self) -> None:
        """Let new sessions begin, with the newest settings of their roles."""
        with psycopg.connect(self._console(), autocommit=True) as console:
            console.execute("RECONNECT")

    def clients(self, database: str) -> int:
        """The number of connections of clients to a database."""
        with psycopg.connect(self._console(), autocommit=True) as console:
            rows = console.execute("SHOW CLIENTS")
            column = [named.name for named in rows.description or ()].index("database")
            return sum(row[column] == database for row in rows)

    def remove(self) -> None:
        self._process.end(signal.SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _console(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/pgbouncer"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._console(), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True
