"""The fixture `pipeline`."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fakes import cancel_others
from stages.pipeline import Pipeline
from streams.stages.consuming import batch_consumer as batch_consumer_module
from streams.stages.consuming import partition_consumer as partition_consumer_module
from streams.stages.consuming import write_buffer as write_buffer_module


@pytest_asyncio.fixture
async def pipeline(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pipeline]:
    monkeypatch.setattr(partition_consumer_module, "COMMIT_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0)
    monkeypatch.setattr(batch_consumer_module, "MIN_BATCH_INTERVAL_SECONDS", 0)
    pipeline = Pipeline()
    yield pipeline
    assert not any(task.done() for task in pipeline.running)
    await cancel_others()
