"""Whoever waits for room in Faust's buffer goes on when there is some, whoever made it."""

import asyncio

import pytest

from streams.adapters import faust_app
from streams.adapters.faust_app import FaustStage


async def test_a_buffer_that_faust_empties_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "LOOK_AGAIN_SECONDS", 0.01)
    stage = FaustStage({"bootstrap.servers": "127.0.0.1:9"}, "fan-out", "session-events", "t.", None)
    stage._arrived = asyncio.Queue(1)
    stage._arrived.put_nowait("an event")
    handed_over = asyncio.Event()

    async def hand_over() -> None:
        handed_over.set()

    waiting = asyncio.create_task(stage._once_there_is_room(hand_over()))
    await asyncio.sleep(0)
    assert not handed_over.is_set()
    stage._arrived.get_nowait()
    await asyncio.wait_for(handed_over.wait(), 5)
    await waiting
