"""The fixture `api`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from rest.api_fixture import ApiFixture, open_api


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api
