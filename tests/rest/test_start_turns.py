"""Requests start in turns of clients."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from api.start_turns import MANY_WAITING, STARTS_PER_LOOP, STARTS_WHILE_MANY_WAIT, StartTurns, client_of


def scope_of(key: str) -> dict[str, Any]:
    return {"path": "/v1/webhooks", "client": ("192.0.2.1", 1), "headers": [(b"authorization", key.encode())]}


class Starts:
    """Requests that wait for their start, in the order in which they started."""

    def __init__(self) -> None:
        self.turns = StartTurns()
        self.order: list[str] = []

    async def request(self, name: str) -> None:
        await self.turns.wait_for_turn(scope_of(name[0]))
        self.order.append(name)


async def test_few_requests_start_at_once() -> None:
    starts = Starts()
    for round_number in range(3):
        for number in range(STARTS_PER_LOOP):
            # Nothing else runs in between: a request that waited would be left behind.
            with pytest.raises(StopIteration):
                starts.request(f"a{round_number}{number}").send(None)
        await asyncio.sleep(0)
    assert len(starts.order) == 3 * STARTS_PER_LOOP


async def test_a_client_with_many_requests_delays_others_by_one_turn() -> None:
    starts = Starts()
    flood = [asyncio.create_task(starts.request(f"a{number}")) for number in range(100)]
    others = [asyncio.create_task(starts.request(name)) for name in ("b", "c")]
    await asyncio.gather(*flood, *others)
    assert len(starts.order) == 102
    assert max(starts.order.index("b"), starts.order.index("c")) < 2 * STARTS_PER_LOOP
    assert [name for name in starts.order if name[0] == "a"] == [f"a{number}" for number in range(100)]


async def test_each_iteration_of_the_loop_starts_a_few() -> None:
    starts, counts = Starts(), [0]
    flood = [asyncio.create_task(starts.request(f"a{number}")) for number in range(100)]
    while len(starts.order) < 100:
        await asyncio.sleep(0)
        counts.append(len(starts.order))
    steps = [after - before for before, after in pairwise(counts)]
    # The first ones came before anybody waited.
    assert max(steps) <= STARTS_PER_LOOP
    behind_many = [step for step, started in zip(steps, counts, strict=False) if 0 < started < 100 - MANY_WAITING]
    assert set(behind_many) - {0} == {STARTS_WHILE_MANY_WAIT}
    await asyncio.gather(*flood)


async def test_who_goes_away_leaves_its_turn() -> None:
    starts = Starts()
    flood = [asyncio.create_task(starts.request(f"a{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in flood[STARTS_PER_LOOP:]:
        task.cancel()
    await starts.request("b")
    assert starts.order == [*(f"a{number}" for number in range(STARTS_PER_LOOP)), "b"]


def test_a_client_is_known_by_what_it_sends() -> None:
    scope = {"path": "/", "client": ("192.0.2.1", 1), "headers": []}
    assert client_of(scope) == "192.0.2.1"
    assert client_of({**scope, "client": None}) == ""
    assert client_of({**scope, "headers": [(b"cookie", b"session=1")]}) == "session=1"
    assert client_of(scope_of("Bearer sk_1")) == "Bearer sk_1"
    assert client_of({**scope, "path": "/runtime/commit/abc"}) == "/runtime/commit/abc"
