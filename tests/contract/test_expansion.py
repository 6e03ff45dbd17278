"""A migration only adds to what the release before it uses."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import URL

from streams.adapters.sql.engine import migrate, schema_check

CONSTRAINTS = ("get_unique_constraints", "get_check_constraints", "get_foreign_keys")
# A table as the release before uses it, and changes of it.
TABLE = "CREATE TABLE hooks (id INTEGER PRIMARY KEY, url TEXT NOT NULL, note TEXT)"
EXPANSIONS = (
    "ALTER TABLE hooks ADD COLUMN colour TEXT",
    "ALTER TABLE hooks ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",
    "CREATE TABLE others (id INTEGER PRIMARY KEY)",
    "CREATE INDEX ix_hooks_url ON hooks (url)",
)
CONTRACTIONS = {
    "DROP TABLE hooks": "hooks: the table is gone",
    "ALTER TABLE hooks RENAME TO webhooks": "hooks: the table is gone",
    "ALTER TABLE hooks DROP COLUMN note": "hooks.note: the column is gone",
    "ALTER TABLE hooks RENAME COLUMN note TO notes": "hooks.note: the column is gone",
    "ALTER TABLE hooks ALTER COLUMN note TYPE INTEGER USING 1": "hooks.note: the column was TEXT, NULL",
    "ALTER TABLE hooks ALTER COLUMN note SET NOT NULL": "hooks.note: the column was TEXT, NULL",
    "ALTER TABLE hooks ALTER COLUMN url DROP NOT NULL": "hooks.url: the column was TEXT, NOT NULL",
    "ALTER TABLE hooks ADD COLUMN colour TEXT NOT NULL": "hooks.colour: a new column is nullable or has a default",
    "ALTER TABLE hooks ADD UNIQUE (url)": "hooks: a new constraint refuses rows of the release before",
    "ALTER TABLE hooks ADD CHECK (note <> url)": "hooks: a new constraint refuses rows of the release before",
    "CREATE UNIQUE INDEX ix_hooks_url ON hooks (url)": "hooks: a new constraint refuses rows of the release before",
}


def structure(connection: Connection) -> dict[str, Any]:
    """Columns and number of constraints, by table."""
    found = inspect(connection)
    return {
        table: (
            {column["name"]: column for column in found.get_columns(table)},
            sum(len(getattr(found, ask)(table)) for ask in CONSTRAINTS)
            + sum(bool(index["unique"]) and "duplicates_constraint" not in index for index in found.get_indexes(table)),
        )
        for table in found.get_table_names()
    }


def problems(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """What stops a process that uses the tables as they were before."""
    for table, (columns, constraints) in before.items():
        if table not in after:
            yield f"{table}: the table is gone"
            continue
        new_columns, new_constraints = after[table]
        for name, column in columns.items():
            if name not in new_columns:
                yield f"{table}.{name}: the column is gone"
            elif kind(column) != kind(new_columns[name]):
                yield f"{table}.{name}: the column was {kind(column)}"
        for name in new_columns.keys() - columns.keys():
            if not new_columns[name]["nullable"] and new_columns[name]["default"] is None:
                yield f"{table}.{name}: a new column is nullable or has a default"
        if new_constraints > constraints:
            yield f"{table}: a new constraint refuses rows of the release before"


def kind(column: Any) -> str:
    return f"{column['type']}, {'NULL' if column['nullable'] else 'NOT NULL'}"


def change(url: URL, *statements: str) -> dict[str, Any]:
    """Execute statements; the structure after them."""
    engine = create_engine(url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
            return structure(connection)
    finally:
        engine.dispose()


@pytest.mark.parametrize("statement", EXPANSIONS)
def test_an_addition_stops_nobody(url: URL, statement: str) -> None:
    assert list(problems(change(url, TABLE), change(url, statement))) == []


@pytest.mark.parametrize("statement", CONTRACTIONS)
def test_what_stops_the_release_before_is_found(url: URL, statement: str) -> None:
    if url.get_backend_name() == "sqlite":
        pytest.skip("SQLite cannot alter a column in place")
    assert CONTRACTIONS[statement] in problems(change(url, TABLE), change(url, statement))


def test_the_release_that_a_migration_names_runs_on_its_tables(url: URL) -> None:
    """The second number of a revision's id says which release that is."""
    scripts = list(schema_check.revisions())
    numbers = [one.partition(".")[0] for one in scripts]
    assert numbers == [f"{number:04}" for number in range(1, len(scripts) + 1)]
    found = {}
    for revision, number in zip(scripts, numbers, strict=True):
        migrate.upgrade(url, revision)
        found[number] = change(url)
        if oldest := revision.partition(".")[2]:
            assert list(problems(found[oldest], found[number])) == []
