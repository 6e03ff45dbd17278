"""The fixture `pipeline`."""

from collections.abc import AsyncIterator

import pytest_asyncio

from fakes import cancel_others
from stages.pipeline import Pipeline


@pytest_asyncio.fixture
async def pipeline() -> AsyncIterator[Pipeline]:
    pipeline = Pipeline()
    yield pipeline
    assert not any(task.done() for task in pipeline.running)
    await cancel_others()
