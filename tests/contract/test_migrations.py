"""Migrations go up and down, and errors of a database name their reason."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError

from builders import NOON, attempt, delivery, webhook
from fakes import FakeClock, FakeEncryption, FakeTelemetry
from real.postgres import ROLE, Postgres
from streams.adapters.sql.deliveries.delivery_log import SqlDeliveryStore
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.engine import migrate, schema_check
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.database import database_url as url_of
from streams.adapters.sql.tables.types import metadata
from streams.adapters.sql.webhooks.outbox import SqlOutbox
from streams.core.accounts.access import ApiKey
from streams.core.accounts.account import Account, DeliveryFilter
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.errors import Misconfigured, Unavailable
from streams.core.webhooks.webhook import Registration
from streams.features.shared.accounts import SqlAccounts
from streams.features.webhooks.storage import SqlWebhooks


def revisions() -> list[str]:
    """The ids of all migrations, oldest first."""
    return sorted(script.revision for script in ScriptDirectory.from_config(migrate._config()).walk_revisions())


def test_the_revisions_are_read_without_alembic() -> None:
    assert list(schema_check.revisions()) == revisions()


def tables(url: URL) -> set[str]:
    engine = create_engine(url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


async def fill(url: URL) -> int:
    """Insert rows into the tables of the stages. Returns the count of listed deliveries."""
    database = Database(url)
    try:
        await SqlAccounts(database).add(
            Account("acme", "Acme", ("ops@acme.example",), NOON),
            ApiKey("key_1", "acme", "first", "sk_", "hash", NOON),
        )
        await SqlWebhooks(database, FakeClock()).add(Registration(webhook(), NOON))
        recorder = SqlRecorder(database, FakeClock(), FakeTelemetry(), FakeEncryption())
        await recorder.record(merge_records([RecordedValue(delivery(), NOON), RecordedValue(attempt(), NOON)]))
        return len((await SqlDeliveryStore(database).list(DeliveryFilter())).rows)
    finally:
        await database.close()


async def test_up_and_down_and_up_again_with_rows_in_the_tables(url: URL) -> None:
    for _ in range(2):
        migrate.upgrade(url)
        assert tables(url) == set(metadata.tables)
        assert await fill(url) == 1
        migrate.downgrade(url, "base")
        assert tables(url) == set()


def execute(url: URL, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last statement, if it has any."""
    engine = create_engine(url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


async def test_going_up_a_second_time_changes_nothing(url: URL) -> None:
    migrate.upgrade(url)
    assert await fill(url) == 1
    migrate.upgrade(url)
    database = Database(url)
    assert len((await SqlDeliveryStore(database).list(DeliveryFilter())).rows) == 1
    await database.close()


def test_the_migrations_lead_to_the_tables_as_declared(url: URL) -> None:
    migrate.upgrade(url)
    migrate.check_migrations(url)


def test_an_empty_database_names_the_command_to_run(url: URL) -> None:
    with pytest.raises(Misconfigured, match=r"schema is empty, this release needs .*: run `scorm-webhooks db upgrade`"):
        schema_check.require_schema(url)
    migrate.upgrade(url)
    schema_check.require_schema(url)


async def test_this_release_runs_on_the_tables_of_the_next(url: URL) -> None:
    migrate.upgrade(url)
    head = revisions()[-1]
    execute(
        url,
        "ALTER TABLE deliveries ADD COLUMN added_later TEXT",
        "CREATE TABLE added_later (id INTEGER PRIMARY KEY)",
        f"UPDATE alembic_version SET version_num = '9999.{head[:4]}'",
    )
    schema_check.require_schema(url)
    migrate.upgrade(url)
    assert execute(url, "SELECT version_num FROM alembic_version") == [(f"9999.{head[:4]}",)]
    assert await fill(url) == 1


@pytest.mark.parametrize("revision", ["9999", "9999.9998", "0000.0000", "of another program"])
def test_a_release_that_must_not_run_on_the_tables_says_so(url: URL, revision: str) -> None:
    migrate.upgrade(url)
    execute(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    for verb in (schema_check.require_schema, migrate.upgrade):
        with pytest.raises(
            Misconfigured, match=f"schema is {revision}, .*: a newer release made it: upgrade this process"
        ):
            verb(url)


async def test_without_its_tables_a_stage_waits_and_drops_nothing(url: URL) -> None:
    database, message = Database(url), r"no such table|does not exist"
    with pytest.raises(Unavailable, match=message):
        await SqlOutbox(database, FakeClock()).list_due(1)
    assert re.search(message, database.readiness_problems()[0])
    migrate.upgrade(url)
    assert await SqlOutbox(database, FakeClock()).list_due(1) == []
    assert database.readiness_problems() == []
    await database.close()


async def test_a_damaged_sqlite_file_is_an_outage(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.write_bytes(b"this is no database at all, but it is long enough to look like a file of one" * 100)
    url = url_of(f"sqlite:///{path}")
    for verb in (schema_check.require_schema, migrate.upgrade):
        with pytest.raises(Misconfigured, match=r"^DATABASE_URL: .*not a database$"):
            verb(url)
    database = Database(url)
    with pytest.raises(Unavailable, match="not a database"):
        await SqlRecorder(database, FakeClock(), FakeTelemetry(), FakeEncryption()).record(Batch(attempts=(attempt(),)))
    assert "not a database" in database.readiness_problems()[0]
    await database.close()


def test_a_folder_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"^DATABASE_URL: unable to open database file$"):
        schema_check.require_schema(url_of(f"sqlite:///{tmp_path}/nowhere/db.sqlite"))


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """Keep files of this process from growing beyond `at_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    url = url_of(f"sqlite:///{tmp_path}/db.sqlite")
    migrate.upgrade(url)
    database = Database(url)
    recorder = SqlRecorder(database, FakeClock(), FakeTelemetry(), FakeEncryption())
    batch = merge_records(
        [RecordedValue(attempt(event_id=f"evt_{number}", response_body=b"x" * 4096), NOON) for number in range(200)]
    )
    with full_disk(256 * 1024), pytest.raises(Unavailable):
        await recorder.record(batch)
    assert database.readiness_problems()
    assert (await SqlDeliveryStore(database).list(DeliveryFilter())).rows == []
    await recorder.record(batch)
    assert len((await SqlDeliveryStore(database).list(DeliveryFilter(limit=1000))).rows) == 200
    await database.close()


async def test_a_database_that_was_away_is_used_again_when_it_is_back(own_postgres: Postgres) -> None:
    url = url_of(own_postgres.url())
    migrate.upgrade(url)
    database = Database(url)
    outbox = SqlOutbox(database, FakeClock())
    assert await outbox.list_due(1) == []
    own_postgres.stop()
    with pytest.raises(Unavailable):
        await outbox.list_due(1)
    with pytest.raises(Unavailable, match=r"^DATABASE_URL: "):
        schema_check.require_schema(url)
    assert database.readiness_problems()
    own_postgres.start()
    assert await outbox.list_due(1) == []
    assert database.readiness_problems() == []
    await database.close()


def test_the_role_of_the_stages_changes_rows_and_no_tables(postgres: Postgres) -> None:
    owner = url_of(postgres.url())
    migrate.upgrade(owner)
    migrate.grant(owner, ROLE)
    migrate.grant(owner, ROLE)
    stages = owner.set(username=ROLE)
    schema_check.require_schema(stages)
    assert execute(stages, "DELETE FROM deliveries", "SELECT count(*) FROM deliveries") == [(0,)]
    for forbidden in (
        "CREATE TABLE more (id INTEGER)",
        "DROP TABLE deliveries",
        "ALTER TABLE deliveries ADD COLUMN more TEXT",
        "TRUNCATE deliveries",
        "UPDATE alembic_version SET version_num = '0001'",
    ):
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            execute(stages, forbidden)


def test_rights_for_nobody_are_refused(postgres: Postgres, tmp_path: Path) -> None:
    url = url_of(postgres.url())
    migrate.upgrade(url)
    with pytest.raises(Misconfigured, match=r"^--grant-to: there is no role 'nobody here'; create it first"):
        migrate.grant(url, "nobody here")
    with pytest.raises(Misconfigured, match=r"^--grant-to: only PostgreSQL has roles$"):
        migrate.grant(url_of(f"sqlite:///{tmp_path}/db.sqlite"), ROLE)
