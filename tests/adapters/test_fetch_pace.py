"""While many events come, a fetch waits for those of a moment; otherwise it ends with the first one."""

import pytest

from fakes.clock import until
from streams.adapters.faust import fetch_pace
from streams.adapters.faust.fetch_pace import MANY_EVENTS_PER_SECOND, MAX_GATHER_BYTES, MAX_GATHER_MS, FetchPace


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_pace, "WINDOW_SECONDS", 0.01)


async def test_many_events_gather_and_their_end_ends_it() -> None:
    calls: list[tuple[int, int]] = []
    pace = FetchPace(lambda wait_ms, least: calls.append((wait_ms, least)), 500)
    pace.add_events(MANY_EVENTS_PER_SECOND)
    await until(lambda: calls == [(MAX_GATHER_MS, MAX_GATHER_BYTES)])
    await until(lambda: calls[1:] == [(500, 1)])


async def test_few_events_change_nothing() -> None:
    calls: list[tuple[int, int]] = []
    pace = FetchPace(lambda wait_ms, least: calls.append((wait_ms, least)), 500)
    pace.add_events(1)
    await until(lambda: not pace.is_judging)
    assert calls == []


async def test_a_short_wait_is_never_made_longer() -> None:
    calls: list[tuple[int, int]] = []
    pace = FetchPace(lambda wait_ms, least: calls.append((wait_ms, least)), 5)
    pace.add_events(MANY_EVENTS_PER_SECOND)
    await until(lambda: bool(calls))
    assert calls[0] == (5, MAX_GATHER_BYTES)
