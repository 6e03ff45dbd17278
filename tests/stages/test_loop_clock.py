"""The loop clock counts the time of endpoints, and little of the time that our own loop is late."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from builders import NOON
from fakes import quiet
from streams.core.queues.endpoint_queue import SLOW_SECONDS, Priority
from streams.core.queues.slot_request import SlotRequest
from streams.core.queues.slots import Slots
from streams.stages.limiting.loop_clock import TICK_SECONDS, TIMER_TOLERANCE_SECONDS, LoopClock
from streams.stages.limiting.slot_limiter import EndpointBusy, SlotLimiter


class Stopwatch:
    """A real clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def counted(beats: Sequence[float]) -> float:
    """The time on the loop clock after beats at these intervals."""
    real = Stopwatch()
    loop_clock = LoopClock(real)
    for passed in beats:
        real.seconds += passed
        loop_clock.tick()
    return loop_clock.now()


def test_beats_in_time_count_in_full() -> None:
    assert counted([TICK_SECONDS, TICK_SECONDS + TIMER_TOLERANCE_SECONDS / 2]) == pytest.approx(0.0215)


def test_a_late_beat_counts_for_a_fifth_of_its_time() -> None:
    assert counted([TICK_SECONDS, 0.02, 5.0, TICK_SECONDS]) == pytest.approx(2 * TICK_SECONDS + 5.02 / 5)


def test_a_busy_process_still_sees_a_slow_endpoint() -> None:
    assert counted([0.05] * 180) > SLOW_SECONDS


def test_nothing_passes_between_two_beats() -> None:
    real = Stopwatch()
    loop_clock = LoopClock(real)
    real.seconds += TICK_SECONDS
    loop_clock.tick()
    before = loop_clock.now()
    real.seconds += 1.0
    assert loop_clock.now() == before


async def test_a_busy_loop_counts_little_time() -> None:
    loop_clock = LoopClock()
    beating = asyncio.create_task(loop_clock.run())
    began_at = time.monotonic()
    while loop_clock.now() < 0.2:
        await asyncio.sleep(0.01)
    # A shared machine may be slow.
    assert time.monotonic() - began_at < 10
    counted_idle, busy_until = loop_clock.now(), time.monotonic() + 0.3
    while time.monotonic() < busy_until:
        piece = time.monotonic() + 2 * TICK_SECONDS
        while time.monotonic() < piece:
            pass
        await asyncio.sleep(0)
    assert loop_clock.now() - counted_idle < 0.15
    beating.cancel()


async def test_only_a_slow_endpoint_sheds_its_queue() -> None:
    real = Stopwatch()
    loop_clock = LoopClock(real)
    limiter = SlotLimiter(Slots(64), loop_clock.now)
    shed: list[EndpointBusy] = []

    async def send() -> None:
        try:
            with await limiter.acquire(SlotRequest("webhook", Priority.FIRST, 32, NOON, "acme")):
                await asyncio.Event().wait()
        except EndpointBusy as error:
            shed.append(error)

    async def beat_for(beats: int, seconds: float) -> None:
        for _ in range(beats):
            real.seconds += seconds
            loop_clock.tick()
        limiter.maintain()
        await quiet()

    sending = [asyncio.create_task(send()) for _ in range(500)]
    await beat_for(30, 0.05)
    assert shed == []
    await beat_for(300, TICK_SECONDS)
    assert len(shed) > 400
    for one in sending:
        one.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
