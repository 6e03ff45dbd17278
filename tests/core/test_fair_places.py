"""Owners take turns for places, and each class has places that no other takes."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import until
from streams.core.queues.request_class import PlaceLimit, RequestClass, connection_limits, request_limits
from streams.fair_places import FairPlaces, NoPlace

PUBLISH, COMMIT, PEOPLE = RequestClass.PUBLISH, RequestClass.COMMIT, RequestClass.PEOPLE
LONG = 30.0


def limits(**changes: PlaceLimit) -> Mapping[RequestClass, PlaceLimit]:
    ample = PlaceLimit(per_owner=100, at_most=100, max_waiting=100)
    return {request_class: changes.get(request_class.name, ample) for request_class in (PUBLISH, COMMIT, PEOPLE)}


class Waiters:
    """Tasks that want a place; `order` has the names of those that got one."""

    def __init__(self, places: FairPlaces) -> None:
        self.places = places
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, name: str, request_class: RequestClass = PEOPLE, owner: str = "") -> asyncio.Task[None]:
        async def wait() -> None:
            await self.places.acquire(request_class, owner or name[0], LONG)
            self.order.append(name)

        task = asyncio.create_task(wait())
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def release(self, request_class: RequestClass, owner: str) -> None:
        count = len(self.order)
        self.places.release(request_class, owner)
        await until(lambda: len(self.order) > count)


async def test_owners_take_turns() -> None:
    places = FairPlaces(1, limits())
    await places.acquire(PEOPLE, "x", LONG)
    waiters = Waiters(places)
    for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
        await waiters.add(name)
    owner = "x"
    for _ in range(6):
        await waiters.release(PEOPLE, owner)
        owner = waiters.order[-1][0]
    assert waiters.order == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_classes_take_turns() -> None:
    places = FairPlaces(1, limits())
    await places.acquire(PEOPLE, "x", LONG)
    waiters = Waiters(places)
    for name in ("p1", "p2", "p3"):
        await waiters.add(name, PEOPLE)
    await waiters.add("c1", COMMIT)
    for held in ((PEOPLE, "x"), (PEOPLE, "p"), (COMMIT, "c")):
        await waiters.release(*held)
    assert waiters.order == ["p1", "c1", "p2"]


async def test_a_reserved_place_is_for_its_class_alone() -> None:
    places = FairPlaces(2, limits(COMMIT=PlaceLimit(100, 100, 100, reserved=1)))
    await places.acquire(PEOPLE, "a", LONG)
    with pytest.raises(NoPlace):
        await places.acquire(PEOPLE, "b", 0.01)
    await places.acquire(COMMIT, "c", 0)


async def test_a_class_may_use_more_than_its_reserve() -> None:
    places = FairPlaces(3, limits(COMMIT=PlaceLimit(100, 100, 100, reserved=1)))
    for _ in range(3):
        await places.acquire(COMMIT, "c", 0)
    waiters = Waiters(places)
    await waiters.add("p1", PEOPLE)
    await waiters.release(COMMIT, "c")
    assert waiters.order == ["p1"]


async def test_an_owner_with_all_its_places_stops_nobody() -> None:
    places = FairPlaces(10, limits(PEOPLE=PlaceLimit(per_owner=2, at_most=10, max_waiting=1)))
    waiters = Waiters(places)
    for name in ("a1", "a2", "a3", "b1"):
        await waiters.add(name)
    assert waiters.order == ["a1", "a2", "b1"]
    with pytest.raises(NoPlace):  # one more than may wait
        await places.acquire(PEOPLE, "a", LONG)
    await waiters.release(PEOPLE, "a")
    assert waiters.order[-1] == "a3"


async def test_who_gives_up_leaves_its_turn() -> None:
    places = FairPlaces(1, limits())
    await places.acquire(PEOPLE, "x", LONG)
    waiters = Waiters(places)
    first, _ = await waiters.add("a1"), await waiters.add("b1")
    first.cancel()
    # In the same moment, before the task notices.
    await waiters.release(PEOPLE, "x")
    assert waiters.order == ["b1"]
    await waiters.add("c1")
    await waiters.release(PEOPLE, "b")
    assert waiters.order == ["b1", "c1"]


async def test_a_turn_that_comes_with_the_cancellation_goes_on() -> None:
    places = FairPlaces(1, limits())
    await places.acquire(PEOPLE, "x", LONG)
    waiters = Waiters(places)
    first, _ = await waiters.add("a1"), await waiters.add("b1")
    places.release(PEOPLE, "x")
    first.cancel()
    await until(lambda: waiters.order == ["b1"])
    assert places.in_use()[PEOPLE] == 1


@given(st.lists(st.tuples(st.sampled_from([PUBLISH, COMMIT, PEOPLE]), st.sampled_from("abc"), st.booleans())))
def test_no_limit_is_ever_exceeded(steps: list[tuple[RequestClass, str, bool]]) -> None:
    bounds = {
        PUBLISH: PlaceLimit(2, 4, 3, reserved=1),
        COMMIT: PlaceLimit(3, 3, 3, reserved=2),
        PEOPLE: PlaceLimit(2, 3, 3),
    }

    async def play() -> None:
        places, held = FairPlaces(5, bounds), Counter[tuple[RequestClass, str]]()

        async def hold(request_class: RequestClass, owner: str) -> None:
            await places.acquire(request_class, owner, LONG)
            held[request_class, owner] += 1

        tasks = []
        for request_class, owner, is_release in steps:
            if is_release and held[request_class, owner]:
                held[request_class, owner] -= 1
                places.release(request_class, owner)
            else:
                tasks.append(asyncio.create_task(hold(request_class, owner)))
            for _ in range(3):
                await asyncio.sleep(0)
            assert places.in_use() == {one: sum(held[one, name] for name in "abc") for one in bounds}
            assert held.total() <= 5
            for one, bound in bounds.items():
                assert places.in_use()[one] <= bound.at_most
                assert all(held[one, name] <= bound.per_owner for name in "abc")
            unused = sum(max(0, bound.reserved - places.in_use()[one]) for one, bound in bounds.items())
            assert 5 - held.total() >= unused
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # No task waits any more: everything that is held can be given back.
        for (request_class, owner), count in held.items():
            for _ in range(count):
                places.release(request_class, owner)
        assert not any(places.in_use().values())

    asyncio.run(play())


@pytest.mark.parametrize("connections", [1, 2, 10, 60, 500])
async def test_every_class_has_places_however_few_there_are(connections: int) -> None:
    places = FairPlaces(connections, request_limits(connections))
    for request_class in request_limits(connections):
        async with places.place(request_class, "a", 0):
            pass


@pytest.mark.parametrize("connections", [10, 60, 500])
async def test_people_leave_places_to_publishers_and_players(connections: int) -> None:
    places = FairPlaces(connections, request_limits(connections))
    for request_class in (PEOPLE, RequestClass.SLOW, RequestClass.WAITING):
        for number in range(connections):
            with suppress(NoPlace):
                await places.acquire(request_class, f"account {number}", 0)
    await places.acquire(PUBLISH, "a", 0)
    await places.acquire(COMMIT, "a", 0)


@pytest.mark.parametrize("connections", [10, 60, 500])
@pytest.mark.parametrize(("busy", "other"), [(PUBLISH, COMMIT), (COMMIT, PUBLISH)])
async def test_publishers_and_players_leave_places_to_each_other(
    connections: int, busy: RequestClass, other: RequestClass
) -> None:
    places = FairPlaces(connections, request_limits(connections))
    for number in range(connections):
        with suppress(NoPlace):
            await places.acquire(busy, f"account {number}", 0)
    await places.acquire(other, "a", 0)


@pytest.mark.parametrize("connections", [10, 60, 500])
def test_few_requests_of_one_owner_wait(connections: int) -> None:
    most_waiting = max(limit.max_waiting for limit in request_limits(connections).values())
    assert most_waiting <= connections / 4


def test_the_numbers_at_the_default_of_connections() -> None:
    bounds = request_limits(500)
    assert bounds[PUBLISH].per_owner == 64
    assert bounds[COMMIT].per_owner == 320
    assert bounds[PEOPLE].per_owner == 16


@pytest.mark.parametrize("connections", [1, 2, 3, 5, 20])
async def test_every_class_gets_a_connection(connections: int) -> None:
    places = FairPlaces(connections, connection_limits(connections))
    for request_class in connection_limits(connections):
        async with places.place(request_class, "a", 0):
            pass
