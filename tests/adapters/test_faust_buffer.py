"""A handover that waits for room in Faust's buffer goes on when there is some."""

import asyncio

import pytest

from streams.adapters.faust import patches
from streams.adapters.faust.patches import StreamBuffer


async def test_a_buffer_that_faust_empties_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "FREE_CHECK_SECONDS", 0.01)
    buffer = StreamBuffer(max_events=1)
    buffer.queue = asyncio.Queue()
    buffer.queue.put_nowait("an event")
    handed_over = asyncio.Event()

    async def hand_over() -> None:
        handed_over.set()

    waiting = asyncio.create_task(buffer.hand_over_when_free(hand_over()))
    await asyncio.sleep(0)
    assert not handed_over.is_set()
    buffer.queue.get_nowait()
    await asyncio.wait_for(handed_over.wait(), 5)
    await waiting
