"""Events that come soon after others share a fetch; the first one waits for nothing."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes import quiet
from streams.adapters.faust import patches

# Longer than the test.
GATHER_SECONDS = 60.0


class FakeFetcher:
    """A fetcher of aiokafka, whose fetches end as the test says."""

    _fetch_max_wait_ms = 0

    async def _proc_fetch_request(self, records: str) -> bool:
        return bool(records)


@pytest.fixture
def fetcher() -> FakeFetcher:
    fetcher = FakeFetcher()
    thread = SimpleNamespace(_consumer=SimpleNamespace(_fetcher=fetcher))
    app = SimpleNamespace(consumer=SimpleNamespace(_thread=thread))
    patches.set_fetch_wait(cast(Any, app), 500, lambda: GATHER_SECONDS)
    return fetcher


async def test_a_fetch_after_one_with_records_begins_later(
    fetcher: FakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", wait)
    assert fetcher._fetch_max_wait_ms == 500
    assert not await fetcher._proc_fetch_request("")
    assert await fetcher._proc_fetch_request("records")
    assert waits == []
    assert not await fetcher._proc_fetch_request("")
    [seconds] = waits
    assert 0 < seconds <= GATHER_SECONDS


async def test_a_consumer_that_ends_during_the_wait_ends_well(fetcher: FakeFetcher) -> None:
    """aiokafka cancels its fetches, and awaits each."""
    await fetcher._proc_fetch_request("records")
    waiting = asyncio.ensure_future(fetcher._proc_fetch_request("records"))
    await quiet()
    waiting.cancel()
    assert not await waiting
