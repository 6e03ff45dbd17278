"""The API, ready to be asked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from rest.api_fixture import ApiFixture, open_office


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_office(f"sqlite:///{tmp_path}/db.sqlite") as office:
        yield office
