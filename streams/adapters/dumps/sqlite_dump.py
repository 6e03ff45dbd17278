"""A dump of SQLite: a copy of its file, as `sqlite3 FILE '.backup DUMP'` makes it."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from streams.adapters.sql.engine.sqlite_file import make_private_file
from streams.core.errors import Conflict, Unavailable
from streams.core.restore import damaged_dump

SQLITE_MAGIC = b"SQLite format 3\0"
PAGES_PER_STEP = 1000
# A query of `deliver` has the file open for a moment.
BUSY_SECONDS = 2.0


class SqliteDump:
    """A `Dump` of SQLite."""

    def __init__(self, path: Path, url: URL) -> None:
        self._path = path
        self._url = url

    def fact_rows(self, tables: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        with self._open() as dump:
            dump.row_factory = sqlite3.Row
            existing = {row["name"] for row in dump.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            return {
                table: [dict(row) for row in dump.execute(f"SELECT * FROM {table}")] if table in existing else []
                for table in tables
            }

    def verify(self, on_progress: Callable[[int, int], None]) -> None:
        with self._open() as dump:
            [result] = dump.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise damaged_dump(self._path, result)

    def restore(self, on_progress: Callable[[int, int], None]) -> None:
        def report(_: int, remaining: int, total: int) -> None:
            on_progress(total - remaining, total)

        with self._open() as dump, _exclusive(self._url) as database:
            # One transaction: if the process is killed, the old database stays.
            dump.backup(database, pages=PAGES_PER_STEP, progress=report)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The dump, opened read-only. Raises `Invalid` for a truncated file."""
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)) as dump:
            try:
                yield dump
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                raise damaged_dump(self._path, str(error)) from None


def require_unused(url: URL) -> None:
    """Raise `Conflict` while another process has the file of the database open."""
    if Path(str(url.database)).exists():
        with _exclusive(url):
            pass


@contextmanager
def _exclusive(url: URL) -> Iterator[sqlite3.Connection]:
    """The database of `url`, which no other process has open. Raises `Conflict` and `Unavailable`."""
    make_private_file(url)
    with closing(sqlite3.connect(str(url.database), timeout=BUSY_SECONDS, isolation_level=None)) as database:
        try:
            # Each connection to a file with a write-ahead log has a shared lock on it, which this excludes.
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("COMMIT")
            yield database
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise Conflict(f"a process has {url.database} open: stop `up` and every stage first") from None
            raise Unavailable(f"DATABASE_URL: {url.database}: {error}") from error
