"""The path in memory, for every test that wants it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fakes import cancel_others
from stages.path import Path
from streams.stages.consuming import partition_consumer as partition_consumer_module
from streams.stages.consuming import write_buffer as write_buffer_module


@pytest_asyncio.fixture
async def path(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    monkeypatch.setattr(partition_consumer_module, "COMMIT_EVERY_SECONDS", 0)
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0)
    path = Path()
    yield path
    assert not any(task.done() for task in path.running)
    await cancel_others()
