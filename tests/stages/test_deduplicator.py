"""A delivery's record that comes twice is attended to once, unless whoever had it in hand gave up."""

import asyncio

import pytest

from builders import delivery
from fakes import quiet
from streams.core.errors import ConflictingId
from streams.stages.consuming.deduplicator import Deduplicator


async def attend(deduplicator: Deduplicator, until: "asyncio.Future[None]") -> bool:
    with await deduplicator.turn(delivery()) as first:
        if first:
            await until
        return first


async def test_a_duplicate_waits_for_the_first() -> None:
    deduplicator, done = Deduplicator(), asyncio.Future[None]()
    first, twin = (asyncio.create_task(attend(deduplicator, done)) for _ in range(2))
    await quiet()
    assert not twin.done()
    done.set_result(None)
    assert (await first, await twin) == (True, False)


async def test_a_twin_has_its_turn_when_the_first_gives_up() -> None:
    deduplicator, never, at_once = Deduplicator(), asyncio.Future[None](), asyncio.Future[None]()
    at_once.set_result(None)
    first = asyncio.create_task(attend(deduplicator, never))
    await quiet()
    twin = asyncio.create_task(attend(deduplicator, at_once))
    await quiet()
    first.cancel()
    assert await twin is True
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_only_so_many_are_remembered() -> None:
    deduplicator, at_once = Deduplicator(limit=0), asyncio.Future[None]()
    at_once.set_result(None)
    assert [await attend(deduplicator, at_once) for _ in range(2)] == [True, True]


async def test_another_account_is_no_duplicate() -> None:
    deduplicator = Deduplicator()
    for account in ("strangers", "acme"):
        with await deduplicator.turn(delivery(account_id=account)) as first:
            assert first


async def test_another_body_under_the_same_id_is_a_conflict() -> None:
    deduplicator = Deduplicator()
    with await deduplicator.turn(delivery()) as first:
        assert first
    with pytest.raises(ConflictingId, match="with another body before"):
        await deduplicator.turn(delivery(body=b"another"))
    with await deduplicator.turn(delivery()) as again:
        assert not again
