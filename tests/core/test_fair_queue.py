"""Owners take turns, and each owner's items leave in order."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streams.core.queues.fair_queue import FairQueue

OWNERS = st.sampled_from(["a", "b", "c", "d"])
COSTS = {"a": 1, "b": 3, "c": 10, "d": 100}


def queue_of(owners: list[str]) -> FairQueue[tuple[str, int]]:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, owner in enumerate(owners):
        queue.put(owner, (owner, number))
    return queue


def test_one_item_is_taken_before_the_rest_of_a_burst() -> None:
    queue = queue_of(["burst"] * 1000 + ["other"])
    taken = queue.take(limit=100, max_turn_cost=10, cost=lambda _: 1)
    assert [owner for owner, _ in taken] == ["burst"] * 10 + ["other"] + ["burst"] * 89


def test_a_lone_owner_has_the_whole_batch() -> None:
    assert len(queue_of(["only"] * 1000).take(limit=500, max_turn_cost=10, cost=lambda _: 1)) == 500


def test_an_owner_whose_items_cost_more_has_fewer_a_turn() -> None:
    queue = queue_of(["dear"] * 50 + ["cheap"] * 50)
    taken = queue.take(limit=20, max_turn_cost=10, cost={"dear": 5, "cheap": 1}.__getitem__)
    assert [owner for owner, _ in taken] == ["dear"] * 2 + ["cheap"] * 10


def test_an_item_larger_than_the_batch_is_taken_alone() -> None:
    queue = queue_of(["huge", "huge", "other"])
    assert queue.take(limit=100, max_turn_cost=10, cost=lambda _: 1000) == [("huge", 0)]


def test_an_empty_queue_gives_nothing() -> None:
    queue = queue_of([])
    assert not queue
    assert queue.take(limit=10, max_turn_cost=1, cost=lambda _: 1) == []


@given(st.lists(OWNERS, max_size=60), st.integers(1, 50), st.integers(1, 20))
def test_every_item_leaves_once_and_in_its_owners_order(owners: list[str], limit: int, turn: int) -> None:
    queue, left = queue_of(owners), defaultdict[str, list[int]](list)
    while queue:
        batch = queue.take(limit, turn, COSTS.__getitem__)
        assert batch
        for owner, number in batch:
            left[owner].append(number)
    assert left == {owner: [n for n, each in enumerate(owners) if each == owner] for owner in set(owners)}


@given(st.lists(OWNERS, min_size=1, max_size=60), st.integers(1, 50), st.integers(1, 20))
def test_nobody_waits_longer_than_a_turn_of_each_other(owners: list[str], limit: int, turn: int) -> None:
    queue, costs = queue_of([*owners, "last"]), {**COSTS, "last": 1}
    before = 0
    while ("last", len(owners)) not in (batch := queue.take(limit, turn, costs.__getitem__)):
        before += sum(costs[owner] for owner, _ in batch)
    # A turn may end with an item that costs more than what is left of it, and a batch may cut a turn short.
    assert before <= len(set(owners)) * (turn + max(costs[owner] for owner in owners))


def test_items_that_are_not_kept_are_gone() -> None:
    queue = queue_of(["a", "b", "a"])
    queue.retain(lambda item: item[1] == 2)
    assert queue.take(limit=100, max_turn_cost=10, cost=lambda _: 1) == [("a", 2)]
    queue.put("b", ("b", 0))
    queue.retain(lambda item: False)
    assert not queue


def test_an_owner_that_may_not_go_delays_no_other() -> None:
    queue = queue_of(["stuck", "stuck", "a", "b", "a"])
    taken = [queue.take_one(lambda owner: owner != "stuck") for _ in range(4)]
    assert [found and found[0] for found in taken] == ["a", "b", "a", None]
    assert queue.take_one(lambda _: True) == ("stuck", ("stuck", 0))
