"""A dump replaces a database whole or not at all, and a file that is not whole is refused before."""

import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

import parts
from real.migrated import make_tables
from real.postgres import Postgres
from streams.adapters.dumps.dump_file import FACT_TABLES, open_dump, to_facts
from streams.adapters.sql.engine.database import database_url as url_of
from streams.adapters.sql.engine.schema_check import connection_to, revisions
from streams.core.errors import Conflict, Invalid, Misconfigured
from streams.core.restore import MeterPosition

ROWS = (
    r"INSERT INTO encryption_check VALUES (1, 'gAAA-\tab')",
    "INSERT INTO leases VALUES ('publish', 'host/1', '2026-04-10 12:00:15.123456')",
    "INSERT INTO usage_positions VALUES (3, 'cluster/topic', 42)",
    "INSERT INTO accounts (id, name, emails, created_at) VALUES ('acme', 'Acme', '[]', '2026-04-10 12:00:00')",
)


def no_progress(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> URL:
    """A database with rows in some tables."""
    url = url_of(database_url)
    make_tables(url)
    if folder := parts.postgres():
        monkeypatch.setenv("PATH", str(folder), prepend=":")
    change(url, *ROWS)
    return url


def change(url: URL, *statements: str) -> None:
    with connection_to(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def account_names(url: URL) -> list[str]:
    with connection_to(url) as connection:
        return list(connection.scalars(text("SELECT name FROM accounts ORDER BY name")))


@pytest.fixture
def dump(url: URL, tmp_path: Path) -> Path:
    return make_dump(url, tmp_path / "webhooks.dump")


def make_dump(url: URL, path: Path) -> Path:
    """As the documents say it."""
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
    else:
        address = url.set(drivername="postgresql").render_as_string()
        subprocess.run(["pg_dump", "--format", "custom", "--file", path, address], check=True)
    return path


def test_a_dump_says_what_it_is_of(url: URL, dump: Path) -> None:
    facts = to_facts(open_dump(dump, url).fact_rows(FACT_TABLES))
    assert (facts.revision, facts.check) == (revisions()[-1], r"gAAA-\tab")
    assert facts.positions == {3: MeterPosition("cluster/topic", 42)}
    assert facts.renewed_at is not None
    assert facts.renewed_at.isoformat() == "2026-04-10T12:00:00.123456+00:00"


def test_a_dump_replaces_every_row(url: URL, dump: Path) -> None:
    change(url, "UPDATE accounts SET name = 'Changed'", "DELETE FROM encryption_check")
    opened = open_dump(dump, url)
    opened.verify(no_progress)
    opened.restore(no_progress)
    assert account_names(url) == ["Acme"]
    opened.restore(no_progress)
    assert account_names(url) == ["Acme"]


@pytest.mark.parametrize("share", [0.03, 0.9, 0.99])
def test_a_dump_that_was_cut_is_refused(url: URL, dump: Path, share: float) -> None:
    # The compressed rows of a larger table fill its end.
    many = "INSERT INTO accounts (id, name, emails, created_at) VALUES ('{0}', '{0}', '[]', '2026-04-10 12:00:00')"
    change(url, *(many.format(number) for number in range(300)))
    whole = make_dump(url, dump).read_bytes()
    dump.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Invalid, match="is damaged, or not complete"):
        read_all(dump, url)


def read_all(dump: Path, url: URL) -> None:
    opened = open_dump(dump, url)
    opened.fact_rows(FACT_TABLES)
    opened.verify(no_progress)


@pytest.mark.parametrize("content", [b"", b"PGDM", b"CREATE TABLE accounts (id text);", b"\x1f\x8b" + b"0" * 100])
def test_another_file_is_not_a_dump(url: URL, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=r"--dump: .* is not a dump of (sqlite|postgresql): `(sqlite3|pg_dump) "):
        open_dump(path, url)


def test_a_dump_of_another_kind_of_database_is_refused(url: URL, dump: Path, tmp_path: Path) -> None:
    is_sqlite = url.get_backend_name() == "sqlite"
    other = url_of("postgresql://nowhere/db" if is_sqlite else f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(Invalid, match="is not a dump of"):
        open_dump(dump, other)


def test_a_missing_dump_is_named(url: URL, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"--dump: .*/nothing: No such file"):
        open_dump(tmp_path / "nothing", url)


def test_a_dump_of_another_program_has_no_revision(url: URL, tmp_path: Path) -> None:
    change(url, "DROP TABLE alembic_version")
    assert to_facts(open_dump(make_dump(url, tmp_path / "other"), url).fact_rows(FACT_TABLES)).revision is None


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture
def postgres_dump(postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[URL, Path]:
    monkeypatch.setenv("PATH", str(parts.postgres()), prepend=":")
    url = url_of(postgresql)
    make_tables(url)
    change(url, *ROWS)
    return url, make_dump(url, tmp_path / "webhooks.dump")


def test_tables_of_a_newer_schema_are_not_left_behind(postgres_dump: tuple[URL, Path]) -> None:
    url, dump = postgres_dump
    change(url, "DROP TABLE restores")
    older = make_dump(url, dump)
    change(url, "CREATE TABLE restores (id integer PRIMARY KEY, account_id text REFERENCES accounts (id))")
    open_dump(older, url).restore(no_progress)
    with connection_to(url) as connection:
        assert connection.scalar(text("SELECT to_regclass('restores')")) is None


def test_a_failed_restore_changes_nothing(postgres_dump: tuple[URL, Path]) -> None:
    url, dump = postgres_dump
    # A view of another program depends on a table.
    change(url, "UPDATE accounts SET name = 'Now'", "CREATE VIEW names AS SELECT name FROM accounts")
    with pytest.raises(Conflict, match=r"pg_restore: .*depend.* The database is as it was before"):
        open_dump(dump, url).restore(no_progress)
    assert account_names(url) == ["Now"]


def test_a_failed_restore_names_the_tables_that_it_dropped(postgres_dump: tuple[URL, Path]) -> None:
    url, dump = postgres_dump
    change(url, "DROP TABLE restores")
    older = make_dump(url, dump)
    change(url, "CREATE TABLE restores (id integer)", "CREATE VIEW names AS SELECT name FROM accounts")
    with pytest.raises(Conflict, match="as it was before, without restores, which the dump does not have"):
        open_dump(older, url).restore(no_progress)


def test_a_restore_that_ends_early_changes_nothing(postgres_dump: tuple[URL, Path]) -> None:
    url, dump = postgres_dump
    change(url, "UPDATE accounts SET name = 'Now'")
    opened = open_dump(dump, url)
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-200])
    with pytest.raises(Conflict, match="The database is as it was before"):
        opened.restore(no_progress)
    assert account_names(url) == ["Now"]


def test_a_dump_fills_an_empty_database(postgres_dump: tuple[URL, Path], postgres: Postgres) -> None:
    _, dump = postgres_dump
    empty = url_of(postgres.url())
    open_dump(dump, empty).restore(no_progress)
    assert account_names(empty) == ["Acme"]


def fake_program(folder: Path, script: str) -> None:
    program = folder / "pg_restore"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "PATH: has no pg_restore: install PostgreSQL's client programs of version"),
        ("echo 'pg_restore (PostgreSQL) 9.6.24'", r"is older than the server \(pg_restore \(PostgreSQL\) 9.6.24\)"),
        ("echo nonsense", "is older than the server"),
    ],
)
def test_a_program_that_cannot_restore_is_named(
    postgres_dump: tuple[URL, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    url, dump = postgres_dump
    programs = tmp_path / "programs"
    programs.mkdir()
    if script:
        fake_program(programs, script)
    monkeypatch.setenv("PATH", f"{programs}")
    with pytest.raises(Misconfigured, match=message):
        open_dump(dump, url)


def test_no_argument_has_the_password(
    postgres_dump: tuple[URL, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, dump = postgres_dump
    monkeypatch.setenv("SCORM_WEBHOOKS_ENCRYPTION_KEYS", "a-secret")
    script = f'echo "pg_restore (PostgreSQL) 99"; echo "$@" >> {tmp_path}/arguments; env > {tmp_path}/environ'
    fake_program(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    open_dump(dump, url.set(password="hunter2")).restore(no_progress)
    arguments, environ = (tmp_path / "arguments").read_text(), (tmp_path / "environ").read_text()
    assert f"port={url.port}" in arguments
    assert "hunter2" not in arguments
    assert "PGPASSWORD=hunter2" in environ
    assert "a-secret" not in environ


# -- SQLite ----------------------------------------------------------------------------------------------------------


def test_a_file_that_a_process_has_open_is_not_replaced(tmp_path: Path) -> None:
    url = url_of(f"sqlite:///{tmp_path}/db.sqlite")
    make_tables(url)
    change(url, "PRAGMA journal_mode=WAL")
    dump = make_dump(url, tmp_path / "webhooks.dump")
    with closing(sqlite3.connect(str(url.database))) as reader:
        reader.execute("SELECT * FROM accounts").fetchall()
        with pytest.raises(Conflict, match=r"has .*/db\.sqlite open: stop `up` and every stage first"):
            open_dump(dump, url).restore(no_progress)
    open_dump(dump, url).restore(no_progress)


def test_a_lost_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    url = url_of(f"sqlite:///{tmp_path}/db.sqlite")
    make_tables(url)
    change(url, *ROWS)
    dump = make_dump(url, tmp_path / "webhooks.dump")
    Path(str(url.database)).unlink()
    open_dump(dump, url).restore(no_progress)
    assert account_names(url) == ["Acme"]
    assert stat.S_IMODE(Path(str(url.database)).stat().st_mode) == 0o600
