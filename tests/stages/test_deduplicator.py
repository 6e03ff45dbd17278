"""A duplicate record is handled only if the first attempt at it fails."""

import asyncio

import pytest

from builders import delivery
from fakes import quiet
from streams.core.deliveries.delivery import Delivery
from streams.core.errors import ConflictingId
from streams.stages.consuming.deduplicator import Deduplicator


async def handle(deduplicator: Deduplicator, until: "asyncio.Future[None]") -> bool:
    turn = await deduplicator.begin(delivery())
    if turn is None:
        return False
    is_done = False
    try:
        await until
        is_done = True
    finally:
        deduplicator.end(turn, delivery(), is_done=is_done)
    return True


async def acknowledge(deduplicator: Deduplicator, record: Delivery) -> None:
    turn = await deduplicator.begin(record)
    assert turn is not None
    deduplicator.end(turn, record, is_done=True)


async def test_a_duplicate_waits_for_the_first() -> None:
    deduplicator, done = Deduplicator(), asyncio.Future[None]()
    first, duplicate = (asyncio.create_task(handle(deduplicator, done)) for _ in range(2))
    await quiet()
    assert not duplicate.done()
    done.set_result(None)
    assert (await first, await duplicate) == (True, False)


async def test_a_duplicate_is_handled_when_the_first_fails() -> None:
    deduplicator, never, at_once = Deduplicator(), asyncio.Future[None](), asyncio.Future[None]()
    at_once.set_result(None)
    first = asyncio.create_task(handle(deduplicator, never))
    await quiet()
    duplicate = asyncio.create_task(handle(deduplicator, at_once))
    await quiet()
    first.cancel()
    assert await duplicate is True
    with pytest.raises(asyncio.CancelledError):
        await first


async def is_known(deduplicator: Deduplicator, step: int) -> bool:
    """Whether it was acknowledged. The question leaves nothing behind: its handling fails."""
    turn = await deduplicator.begin(delivery(step=step))
    if turn is not None:
        deduplicator.end(turn, delivery(step=step), is_done=False)
    return turn is None


@pytest.mark.parametrize("count", range(5, 40))
async def test_the_newest_records_are_remembered(count: int) -> None:
    deduplicator = Deduplicator(limit=10)
    for step in range(count):
        await acknowledge(deduplicator, delivery(step=step))
    known = [await is_known(deduplicator, step) for step in range(count)]
    assert known[-5:] == [True] * 5
    assert sum(known) <= 10
    # None between two of them is forgotten.
    assert known == sorted(known)


async def test_the_same_id_of_another_account_is_no_duplicate() -> None:
    deduplicator = Deduplicator()
    for account in ("globex", "acme"):
        await acknowledge(deduplicator, delivery(account_id=account))


async def test_another_body_under_the_same_id_is_a_conflict() -> None:
    deduplicator = Deduplicator()
    await acknowledge(deduplicator, delivery())
    with pytest.raises(ConflictingId, match="with another body before"):
        await deduplicator.begin(delivery(body=b"another"))
    assert await deduplicator.begin(delivery()) is None
