"""Requests of one iteration of the loop are written together, and one timer serves all deadlines."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.adapters.http.batching import BatchedWrites, Deadlines


class FakeTransport:
    """A transport that records writes."""

    def __init__(self, written: list[bytes]) -> None:
        self._written = written
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.closing
        self._written.append(data)


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop with a clock and one timer. `pass_to` advances the clock and runs due timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.readiness_problems: list[dict[str, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    def call_exception_handler(self, problem: dict[str, object]) -> None:
        self.readiness_problems.append(problem)

    @property
    def set_timers(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def pass_to(self, now: float) -> None:
        while due := [timer for timer in self.set_timers if timer.at <= now]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = now


class FakeConnection:
    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.expired_at: list[float] = []

    def expire(self) -> None:
        self.expired_at.append(self._loop.now)


@pytest.mark.asyncio
async def test_requests_of_one_round_leave_together_in_their_order() -> None:
    written: list[bytes] = []
    writes = BatchedWrites(asyncio.get_running_loop())
    for request in (b"first", b"second"):
        writes.add(FakeTransport(written), request)  # type: ignore[arg-type]
        assert not written
    await asyncio.sleep(0)
    assert written == [b"first", b"second"]
    writes.add(FakeTransport(written), b"third")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert written == [b"first", b"second", b"third"]


@pytest.mark.asyncio
async def test_a_closed_connection_delays_no_other_request() -> None:
    written: list[bytes] = []
    gone, here = FakeTransport(written), FakeTransport(written)
    writes = BatchedWrites(asyncio.get_running_loop())
    writes.add(gone, b"lost")  # type: ignore[arg-type]
    writes.add(here, b"sent")  # type: ignore[arg-type]
    gone.closing = True
    await asyncio.sleep(0)
    assert written == [b"sent"]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10), st.none() | st.integers(0, 9)), max_size=12))
def test_a_request_without_response_expires_at_its_deadline(asked: list[tuple[int, int, int | None]]) -> None:
    loop = FakeLoop()
    deadlines = Deadlines(loop)  # type: ignore[arg-type]
    all_of_them = [(begins, begins + patience, answered, FakeConnection(loop)) for begins, patience, answered in asked]
    for now in range(40):
        loop.pass_to(now)
        for begins, deadline, answered, whom in all_of_them:
            if begins == now:
                deadlines.set(whom, deadline)
            if answered is not None and begins + answered == now:
                deadlines.clear(whom)
        assert len(loop.set_timers) <= 1
    for begins, deadline, answered, whom in all_of_them:
        in_time = answered is not None and begins + answered < deadline
        assert whom.expired_at == ([] if in_time else [deadline])


def test_a_deadline_that_fails_takes_no_other_with_it() -> None:
    class Broken:
        def expire(self) -> None:
            raise RuntimeError("broken")

    loop = FakeLoop()
    deadlines, other = Deadlines(loop), FakeConnection(loop)  # type: ignore[arg-type]
    later = FakeConnection(loop)
    deadlines.set(Broken(), 1)
    deadlines.set(other, 1)
    deadlines.set(later, 2)
    loop.pass_to(2)
    assert (other.expired_at, later.expired_at) == ([1], [2])
    assert [str(problem["exception"]) for problem in loop.readiness_problems] == ["broken"]
