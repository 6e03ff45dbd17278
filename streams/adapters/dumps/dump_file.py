"""A dump in a file: which kind it is, and what every kind can do."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine import URL

from streams.adapters.dumps.postgres_dump import POSTGRES_MAGIC, PostgresDump
from streams.adapters.dumps.sqlite_dump import SQLITE_MAGIC, SqliteDump
from streams.adapters.sql.webhooks.outbox import LEASE_SECONDS
from streams.core.errors import FieldError, Invalid
from streams.core.restore import DumpFacts, MeterPosition

# The finished and the total amount of work.
OnProgress = Callable[[int, int], None]
# The rows of each of `FACT_TABLES` by column.
FactRows = Mapping[str, Sequence[Mapping[str, Any]]]
FACT_TABLES = ("alembic_version", "encryption_check", "leases", "usage_positions")


class Dump(Protocol):
    """A file that can replace a database."""

    def fact_rows(self, tables: Sequence[str]) -> FactRows:
        """The rows of small tables, without a database. Raises `Invalid` for a truncated file."""

    def verify(self, on_progress: OnProgress) -> None:
        """Read the whole file. Raises `Invalid` for a truncated file."""

    def restore(self, on_progress: OnProgress) -> None:
        """Replace the database, all of it or nothing. Raises `Conflict`, with the reason, and `Unavailable`."""


def open_dump(path: Path, url: URL) -> Dump:
    """The dump at `path`, for the database at `url`. Raises `Invalid`, and `Misconfigured` without its program."""
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise Invalid(FieldError("--dump", f"{path}: {error.strerror}")) from None
    is_sqlite = url.get_backend_name() == "sqlite"
    if start == SQLITE_MAGIC and is_sqlite:
        return SqliteDump(path, url)
    if start.startswith(POSTGRES_MAGIC) and not is_sqlite:
        return PostgresDump(path, url)
    way = "`sqlite3 FILE '.backup DUMP'`" if is_sqlite else "`pg_dump --format custom`"
    raise Invalid(FieldError("--dump", f"{path} is not a dump of {url.get_backend_name()}: {way} makes one"))


def to_facts(rows: FactRows) -> DumpFacts:
    """The facts of these rows, whose values may be texts."""
    expiries = [_to_time(row["expires_at"]) for row in rows["leases"]]
    return DumpFacts(
        revision=next((row["version_num"] for row in rows["alembic_version"]), None),
        check=next((row["ciphertext"] for row in rows["encryption_check"]), None),
        positions={
            int(row["partition"]): MeterPosition(row["incarnation"], int(row["next_offset"]))
            for row in rows["usage_positions"]
        },
        renewed_at=max(expiries) - timedelta(seconds=LEASE_SECONDS) if expiries else None,
    )


def _to_time(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
