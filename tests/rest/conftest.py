"""The fixture `api`, and what it asks its database."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event as sql_event

from rest.api_fixture import ApiFixture, open_api


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


@pytest.fixture
def statements(api: ApiFixture) -> Iterator[list[str]]:
    """The SQL of the test so far."""
    made: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        made.append(statement)

    engines = {api.database._read_engine.sync_engine, api.database._engine.sync_engine}
    for engine in engines:
        sql_event.listen(engine, "before_cursor_execute", record)
    yield made
    for engine in engines:
        sql_event.remove(engine, "before_cursor_execute", record)
