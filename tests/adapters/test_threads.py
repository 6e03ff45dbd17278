"""A machine that starts no thread postpones blocking calls."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from fakes import FakeTelemetry
from streams.adapters.driver_queries import SqliteQueries
from streams.adapters.kafka.compacted.end_offset import EndOffset
from streams.adapters.kafka.connection.config import subscriptions_config
from streams.adapters.kafka.consuming.topics_watch import TopicsWatch
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.replay_lookup import DriverTable, SqlReplayLookup
from streams.adapters.threads import run_in_daemon_thread, run_in_worker_thread
from streams.core.errors import Unavailable
from streams.outage import Outages
from streams.topics import SUBSCRIPTIONS

SECONDS = 20.0
Runner = Callable[[Callable[[], Any]], Awaitable[Any]]


class ThreadShortage:
    """Keeps threads from starting during the block, and counts them."""

    def __init__(self) -> None:
        self.refused = 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        self._patch.setattr(threading.Thread, "start", self._refuse)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _refuse(self) -> None:
        self.refused += 1
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("run", [run_in_daemon_thread, run_in_worker_thread])
async def test_a_call_without_a_thread_is_unavailable(run: Runner) -> None:
    with ThreadShortage(), pytest.raises(Unavailable, match="starts no thread at the moment: can't start new thread"):
        await run(lambda: None)


@pytest.mark.parametrize("run", [run_in_daemon_thread, run_in_worker_thread])
async def test_an_error_of_the_call_itself_passes_unchanged(run: Runner) -> None:
    def fail() -> None:
        raise RuntimeError("of the call")

    with pytest.raises(RuntimeError, match="of the call"):
        await run(fail)


async def test_topics_stay_as_they_are_without_a_thread() -> None:
    def subscribe(partitions: object) -> None:
        raise AssertionError("no broker answered")

    with ThreadShortage() as shortage:
        await TopicsWatch(lambda _: {"deliveries": 4}, subscribe, lambda _: True, []).check()
    assert shortage.refused == 1


async def test_the_end_offset_is_asked_again_without_a_thread() -> None:
    telemetry = FakeTelemetry()
    with EmbeddedBroker() as broker:
        broker.create(SUBSCRIPTIONS, 1)
        end = EndOffset(
            subscriptions_config({"bootstrap.servers": broker.bootstrap}), SUBSCRIPTIONS, Outages(telemetry)
        )
        async with asyncio.timeout(SECONDS):
            with ThreadShortage() as shortage:
                asking = asyncio.create_task(end.find_end(0))
                while shortage.refused < 2:
                    await asyncio.sleep(0.01)
                assert end.is_away
            assert await asking == 0
    assert [fact for fact, _ in telemetry.logged] == ["threads_exhausted", "threads_available"]
    assert not end.is_away


async def test_a_retry_is_sent_unasked_without_a_thread(tmp_path: Path) -> None:
    table = DriverTable(SqliteQueries(tmp_path / "db"))
    with ThreadShortage():
        assert await SqlReplayLookup(table, Outages(FakeTelemetry())).newest_generation("dlv_1") is None
