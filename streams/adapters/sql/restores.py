"""The reads and writes of a restore in the database itself. Only a command uses it, so its queries block."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, inspect, select, text
from sqlalchemy.engine import URL

from streams.adapters.dumps.sqlite_dump import require_unused
from streams.adapters.sql.engine.database import APPLICATION_NAME
from streams.adapters.sql.engine.schema_check import connection_to
from streams.adapters.sql.tables.deliveries import IS_HELD_FOR_READERS, deliveries, leases, webhooks
from streams.adapters.sql.tables.erasures import erased_learners
from streams.adapters.sql.tables.restores import restores
from streams.core.errors import Conflict
from streams.core.restore import RestoreProgress, RestoreStep

_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = :name AND pid <> pg_backend_pid()
"""
_ONLY_ROW = 1


class SqlRestores:
    """The database at `url`, which may be empty, or not exist yet if it is SQLite's file."""

    def __init__(self, url: URL, is_behind_pooler: bool = False) -> None:
        self._url = url
        # A pooler keeps the sessions of clients that have ended.
        self._shows_sessions = url.get_backend_name() == "postgresql" and not is_behind_pooler
        self._is_sqlite = url.get_backend_name() == "sqlite"

    def require_unused(self, now: datetime) -> None:
        """Raise `Conflict`, with what to stop, while a stage that uses the database runs."""
        if self._lacks_file():
            return
        if self._is_sqlite:
            require_unused(self._url)
        with connection_to(self._url) as connection:
            if inspect(connection).has_table(leases.name):
                moment: Any = now if self._is_sqlite else func.now()
                held = connection.scalars(select(leases.c.name).where(leases.c.expires_at > moment)).all()
                if held:
                    raise Conflict(
                        f"held leases: {', '.join(sorted(held))}. Stop every process of these stages first; a lease of "
                        "a killed one ends after 15 seconds"
                    )
            if self._shows_sessions and (count := connection.scalar(text(_SESSIONS), {"name": APPLICATION_NAME})):
                raise Conflict(
                    f"{count} connections of {APPLICATION_NAME} to the database are open: stop publish, maintain, "
                    "record, meter, notify and api first"
                )

    def fact_rows(self, tables: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The rows of these tables; none for a table that does not exist."""
        if self._lacks_file():
            return {table: [] for table in tables}
        with connection_to(self._url) as connection:
            existing = inspect(connection).get_table_names()
            return {table: _all_rows(connection, table) if table in existing else [] for table in tables}

    def find_progress(self, dump: str, since: datetime) -> RestoreProgress | None:
        """The progress of the restore of this dump since this time. None if another one was the last."""
        if self._lacks_file():
            return None
        with connection_to(self._url) as connection:
            if not inspect(connection).has_table(restores.name):
                return None
            row = connection.execute(select(restores)).first()
        if row is None or (row.dump, row.since) != (dump, since):
            return None
        return RestoreProgress(
            dump=dump,
            since=since,
            started_at=row.started_at,
            last_step=RestoreStep(row.last_step),
            counts=row.counts,
        )

    def save_progress(self, progress: RestoreProgress) -> None:
        """Store the progress, and replace any other restore's."""
        with connection_to(self._url) as connection:
            connection.execute(delete(restores))
            connection.execute(
                restores.insert().values(
                    id=_ONLY_ROW,
                    dump=progress.dump,
                    since=progress.since,
                    started_at=progress.started_at,
                    last_step=progress.last_step,
                    counts=progress.counts,
                )
            )

    def forget_leases(self) -> None:
        """Delete the leases of the dump: their holders ended with the old database."""
        with connection_to(self._url) as connection:
            connection.execute(delete(leases))

    def count_results(self, progress: RestoreProgress) -> Mapping[str, int]:
        """The results of a restore, as counts of rows."""
        queries = {
            "deliveries_for_readers": select(func.count()).select_from(deliveries).where(IS_HELD_FOR_READERS),
            "webhooks_deleted_again": select(func.count())
            .select_from(webhooks)
            .where(webhooks.c.deleted_at >= progress.started_at),
            "learners_erased": select(func.count())
            .select_from(erased_learners)
            .where(erased_learners.c.erased_at >= progress.since),
        }
        with connection_to(self._url) as connection:
            return {name: connection.scalar(query) or 0 for name, query in queries.items()}

    def _lacks_file(self) -> bool:
        return self._is_sqlite and not Path(str(self._url.database)).exists()


def _all_rows(connection: Connection, table: str) -> list[Mapping[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {table}"))]
