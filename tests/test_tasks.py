"""`run_until_first_ends` runs tasks; when one ends, the others are cancelled."""

import asyncio

import pytest

from streams.tasks import run_until_first_ends


class Endless:
    """Runs until cancelled."""

    def __init__(self) -> None:
        self.is_cancelled = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise


async def ends() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    raise ValueError("a bug")


async def test_when_one_task_ends_the_others_are_cancelled() -> None:
    other = Endless()
    await run_until_first_ends(other.run, ends)
    assert other.is_cancelled


async def test_a_failure_is_raised_unchanged() -> None:
    other = Endless()
    with pytest.raises(ValueError, match="a bug"):
        await run_until_first_ends(other.run, fails)
    assert other.is_cancelled


async def test_a_cancellation_cancels_all_tasks() -> None:
    parts = [Endless(), Endless()]
    running = asyncio.create_task(run_until_first_ends(*(part.run for part in parts)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [part.is_cancelled for part in parts] == [True, True]
