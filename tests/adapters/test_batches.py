"""Who comes during a batch is in the next one; no item fails or delays another forever."""

import asyncio
from collections.abc import Sequence

import pytest

from fakes import until
from streams.adapters.batches import Batches
from streams.core.errors import NotFound, RowRefused, Unavailable
from streams.core.queues.request_class import RequestClass
from streams.request_owner import RequestOwner, current_owner, work_for


class Doubling:
    """Doubles numbers; notes its batches. It waits for `go`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.raises: dict[int, Exception] = {}
        self.returns: dict[int, Exception] = {}

    async def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(numbers))
        await self.go.wait()
        for number in numbers:
            if number in self.raises:
                raise self.raises[number]
        return [self.returns.get(number, number * 2) for number in numbers]


async def test_callers_during_a_batch_are_in_the_next_one() -> None:
    doubling = Doubling()
    batches = Batches(doubling, max_size=3)
    doubling.go.clear()
    first = asyncio.create_task(batches.submit(1))
    await until(lambda: doubling.batches == [[1]])
    others = [asyncio.create_task(batches.submit(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    doubling.go.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10, 12]
    assert doubling.batches == [[1], [2, 3, 4], [5, 6]]
    assert await batches.submit(7) == 14


async def test_batches_begin_apart_and_a_lone_item_waits_for_none() -> None:
    doubling = Doubling()
    batches = Batches(doubling, max_size=10, interval_seconds=0.1)
    now = asyncio.get_running_loop().time
    began = now()
    assert await batches.submit(1) == 2
    assert now() - began < 0.1
    assert await asyncio.gather(*(batches.submit(number) for number in (2, 3))) == [4, 6]
    assert now() - began > 0.09
    assert doubling.batches == [[1], [2, 3]]


async def test_a_result_that_is_an_error_is_its_callers_alone() -> None:
    doubling = Doubling()
    doubling.returns[2] = NotFound("no 2")
    batches = Batches(doubling, max_size=10)
    found = await asyncio.gather(*(batches.submit(number) for number in (1, 2, 3)), return_exceptions=True)
    assert found[0] == 2
    assert isinstance(found[1], NotFound)
    assert found[2] == 6


async def test_an_item_that_is_refused_fails_no_other() -> None:
    doubling = Doubling()
    doubling.raises[2] = RowRefused("not 2")
    batches = Batches(doubling, max_size=10)
    found = await asyncio.gather(*(batches.submit(number) for number in (1, 2, 3)), return_exceptions=True)
    assert found[0] == 2
    assert isinstance(found[1], RowRefused)
    assert found[2] == 6
    assert doubling.batches == [[1, 2, 3], [1], [2], [3]]


async def test_an_outage_is_asked_about_once() -> None:
    doubling = Doubling()
    doubling.raises[1] = Unavailable("away")
    batches = Batches(doubling, max_size=10)
    found = await asyncio.gather(*(batches.submit(number) for number in (1, 2)), return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable, Unavailable]
    assert doubling.batches == [[1, 2]]


async def test_a_cancelled_caller_delays_nobody() -> None:
    doubling = Doubling()
    doubling.go.clear()
    batches = Batches(doubling, max_size=1)
    first, gone, last = (asyncio.create_task(batches.submit(number)) for number in (1, 2, 3))
    await until(lambda: doubling.batches == [[1]])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.shield(first)
    gone.cancel()
    await asyncio.sleep(0)
    doubling.go.set()
    assert (await first, await last) == (2, 6)
    assert doubling.batches == [[1], [3]]


async def test_owners_take_turns_in_a_batch() -> None:
    doubling = Doubling()
    doubling.go.clear()
    batches = Batches(doubling, max_size=3)
    first = asyncio.create_task(batches.submit(1, "a"))
    await until(lambda: doubling.batches == [[1]])
    many = [asyncio.create_task(batches.submit(number, "a")) for number in range(2, 6)]
    other = asyncio.create_task(batches.submit(9, "b"))
    await asyncio.sleep(0)
    doubling.go.set()
    await asyncio.gather(first, *many, other)
    assert doubling.batches == [[1], [2, 9, 3], [4, 5]]


async def test_a_batch_has_not_the_turn_of_the_caller_that_started_it() -> None:
    owners: list[RequestOwner | None] = []

    async def note(numbers: Sequence[int]) -> Sequence[int]:
        owners.append(current_owner())
        return numbers

    for request_class in (None, RequestClass.COMMIT):
        with work_for(RequestOwner(RequestClass.PEOPLE, "acme")):
            await Batches(note, max_size=1, request_class=request_class).submit(1)
    assert owners == [None, RequestOwner(RequestClass.COMMIT, "")]
