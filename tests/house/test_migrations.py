"""The ids of migrations, and the tool that writes the next one."""

from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, Table

from migration import next_revision, write_migration
from streams.adapters.sql.engine.schema_check import revisions
from streams.adapters.sql.tables.types import metadata


@pytest.mark.parametrize("revision", revisions())
def test_the_release_before_runs_on_the_tables_of_a_migration(revision: str) -> None:
    rule = "its id is `0007.0006`: the second number is the oldest schema whose release runs on its tables too"
    assert "." in revision or revision == "0001", f"migration {revision} would stop every deployment: {rule}"


def test_the_tool_writes_what_the_tables_have_more(tmp_path: Path) -> None:
    added = Table("added_later", metadata, Column("id", Integer, primary_key=True))
    try:
        path = write_migration("What comes next", tmp_path)
    finally:
        metadata.remove(added)
    number = int(revisions()[-1][:4])
    assert path.name == f"{number + 1:04}_what_comes_next.py"
    text = path.read_text()
    assert f'revision = "{number + 1:04}.{number:04}"' in text.replace("'", '"')
    assert "added_later" in text
    assert next_revision("0007.0006") == "0008.0007"
