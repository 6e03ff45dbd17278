"""A dump of `pg_dump --format custom`, restored by `pg_restore`."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import inspect, text
from sqlalchemy.engine import URL

from streams.adapters.driver_queries import libpq_url
from streams.adapters.sql.engine.schema_check import connection_to
from streams.adapters.sql.tables import accounts, course_sessions, deliveries, erasures, restores, usage
from streams.adapters.sql.tables.types import metadata
from streams.core.errors import Conflict, Misconfigured
from streams.core.restore import damaged_dump

POSTGRES_MAGIC = b"PGDMP"
CHUNK_BYTES = 1 << 20
# A program that holds a lock on a table stops the restore with an error, not forever.
LOCK_TIMEOUT_SECONDS = 60
# Every module declares its tables in `metadata`.
_DECLARATIONS = (accounts, course_sessions, deliveries, erasures, restores, usage)
_TABLE_OF_LIST = re.compile(r"^\d+; \d+ \d+ TABLE \S+ (\S+) ", re.MULTILINE)
_COPY = re.compile(r"COPY \S+?\.(\w+) \(([^)]*)\) FROM stdin;")
_ESCAPES = {r"\\": "\\", r"\t": "\t", r"\n": "\n", r"\r": "\r"}


class PostgresDump:
    """A `Dump` of PostgreSQL. `pg_restore` gets the password by its environment, and the file by its standard input."""

    def __init__(self, path: Path, url: URL) -> None:
        self._path = path
        self._url = url
        self._program = _find_program(url)

    def fact_rows(self, tables: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, str]]]:
        options = [option for table in tables for option in ("--table", table)]
        lines = self._output("--data-only", "--file", "-", *options).splitlines()
        rows: dict[str, list[Mapping[str, str]]] = {table: [] for table in tables}
        for table, row in _copied_rows(iter(lines)):
            rows[table].append(row)
        return rows

    def verify(self, on_progress: Callable[[int, int], None]) -> None:
        if problem := self._feed(("--file", os.devnull), on_progress):
            raise damaged_dump(self._path, problem)

    def restore(self, on_progress: Callable[[int, int], None]) -> None:
        dropped_names = self._drop_newer_tables()
        parameters: dict[str, Any] = conninfo_to_dict(libpq_url(self._url.render_as_string(hide_password=False)))
        # Other users of this machine see the arguments.
        password = parameters.pop("password", None)
        environ = {"PGOPTIONS": f"-c lock_timeout={LOCK_TIMEOUT_SECONDS}s"}
        if password is not None:
            environ["PGPASSWORD"] = str(password)
        options = ("--clean", "--if-exists", "--single-transaction", "--dbname", make_conninfo(**parameters))
        if problem := self._feed(options, on_progress, environ):
            without = f", without {', '.join(dropped_names)}, which the dump does not have" if dropped_names else ""
            raise Conflict(f"pg_restore: {problem}. The database is as it was before{without}")

    def _drop_newer_tables(self) -> Sequence[str]:
        """Drop the tables that the dump does not have: they would be in the way of the upgrade that makes them.

        It is a transaction of its own, before that of `pg_restore`. Returns the names.
        """
        dumped = set(_TABLE_OF_LIST.findall(self._output("--list")))
        with connection_to(self._url) as connection:
            newer_names = sorted(metadata.tables.keys() & set(inspect(connection).get_table_names()) - dumped)
            if newer_names:
                quote = connection.dialect.identifier_preparer.quote
                connection.execute(text(f"DROP TABLE {', '.join(map(quote, newer_names))}"))
        return newer_names

    def _output(self, *arguments: str) -> str:
        """The output of `pg_restore` for this file. Raises `Invalid`."""
        command = [self._program, *arguments, str(self._path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=_environ({}))
        if done.returncode:
            raise damaged_dump(self._path, _problem_in(done.stderr))
        return done.stdout.decode()

    def _feed(
        self, arguments: Sequence[str], on_progress: Callable[[int, int], None], environ: Mapping[str, str] = {}
    ) -> str | None:
        """Run `pg_restore` on the file. Returns its error."""
        size, done_bytes = self._path.stat().st_size, 0
        with self._path.open("rb") as dump, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=_environ(environ),
            )
            assert process.stdin
            try:
                # Its error says why it reads no more.
                with suppress(BrokenPipeError), process.stdin:
                    while chunk := dump.read(CHUNK_BYTES):
                        process.stdin.write(chunk)
                        done_bytes += len(chunk)
                        on_progress(done_bytes, size)
                process.wait()
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            return _problem_in(errors.read()) if process.returncode else None


def _find_program(url: URL) -> str:
    """The program `pg_restore`. Raises `Misconfigured` if it is missing, or older than the server."""
    with connection_to(url) as connection:
        server_major = int(str(connection.scalar(text("SHOW server_version_num")))) // 10_000
    advice = f"install PostgreSQL's client programs of version {server_major} or newer, or restore with them elsewhere"
    without_dump = "then run this command without --dump"
    program = shutil.which("pg_restore")
    if program is None:
        raise Misconfigured(f"PATH: has no pg_restore: {advice}; {without_dump}")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\) (\d+)", version)
    if match is None or int(match[1]) < server_major:
        raise Misconfigured(f"PATH: {program} is older than the server ({version.strip()}): {advice}; {without_dump}")
    return program


def _environ(more: Mapping[str, str]) -> Mapping[str, str]:
    """The environment of `pg_restore`, without our secrets."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG") or name[:2] == "PG"}
    return {**kept, **more}


def _problem_in(errors: bytes) -> str:
    """The first error in the output of `pg_restore`."""
    lines = errors.decode(errors="replace").splitlines()
    error = next((line for line in lines if "error:" in line), lines[0] if lines else "no reason")
    return error.partition("error: ")[2] or error


def _copied_rows(lines: Iterator[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The rows of the COPY blocks in a script, each with its table. NULL is left out."""
    for line in lines:
        if match := _COPY.fullmatch(line):
            columns = [column.strip('" ') for column in match[2].split(",")]
            for row in iter(lines.__next__, r"\."):
                values = dict(zip(columns, row.split("\t"), strict=True))
                yield match[1], {name: _unescape(value) for name, value in values.items() if value != r"\N"}


def _unescape(value: str) -> str:
    return re.sub(r"\\[\\tnr]", lambda escape: _ESCAPES[escape[0]], value)
