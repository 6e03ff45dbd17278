"""Name servers that do not answer delay the look-ups of one account alone."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from fakes import quiet
from streams.adapters.lookups import CACHE_SECONDS, LOOKUPS_AT_ONCE, Lookups


class NameServers:
    """A look-up: names with `silent` in them are answered when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: Counter[str] = Counter()
        self._silent: dict[str, asyncio.Future[Sequence[str]]] = {}
        self.lookups = Lookups(self._lookup, lambda: self.now)
        self.tasks: list[asyncio.Task[Sequence[str]]] = []

    async def _lookup(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        if "silent" in host:
            self._silent[host] = asyncio.get_running_loop().create_future()
            return await self._silent[host]
        return ["203.0.113.7"]

    @property
    def pending(self) -> int:
        return sum(not future.done() for future in self._silent.values())

    async def ask_silent(self, account: str, count: int) -> None:
        """Ask for new names, whose name servers are silent."""
        first = len(self.tasks)
        for number in range(first, first + count):
            self.tasks.append(asyncio.create_task(self.lookups.find(f"{number}.silent.example", account)))
        await quiet()

    async def answer_one(self) -> None:
        """Let the oldest silent look-up end."""
        next(future for future in self._silent.values() if not future.done()).set_exception(OSError("no answer"))
        await quiet()

    async def give_up(self) -> None:
        """The attempts that wait end; their look-ups go on."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.mark.parametrize("accounts", [1, 3, 10])
async def test_silent_names_leave_look_ups_to_others(accounts: int) -> None:
    servers = NameServers()
    for number in range(accounts):
        await servers.ask_silent(f"acc_{number}", LOOKUPS_AT_ONCE)
    assert servers.pending < LOOKUPS_AT_ONCE
    async with asyncio.timeout(5):
        assert await servers.lookups.find("crm.example.com", "acc_b") == ["203.0.113.7"]
    await servers.give_up()


async def test_a_look_up_counts_until_it_ends() -> None:
    """Its attempt has ended long before: with the next attempts, an account would get one thread after the other."""
    servers = NameServers()
    await servers.ask_silent("acc_a", 100)
    pending = servers.pending
    await servers.give_up()
    await servers.ask_silent("acc_a", 100)
    assert servers.pending == pending
    await servers.answer_one()
    assert servers.pending == pending
    await servers.give_up()


async def test_accounts_that_wait_take_turns() -> None:
    servers = NameServers()
    servers.lookups = Lookups(servers._lookup, at_once=1)
    await servers.ask_silent("acc_a", 10)
    [first] = servers.asked
    waiting = asyncio.create_task(servers.lookups.find("crm.example.com", "acc_b"))
    await quiet()
    assert not waiting.done()
    await servers.answer_one()
    await servers.answer_one()
    assert await waiting == ["203.0.113.7"]
    assert servers.asked.total() == 4
    assert servers.asked[first] == 1
    await servers.give_up()


async def test_a_name_is_looked_up_once_for_all() -> None:
    servers = NameServers()
    same = [asyncio.create_task(servers.lookups.find("silent.example", f"acc_{n}")) for n in range(20)]
    await quiet()
    assert servers.asked["silent.example"] == 1
    servers._silent["silent.example"].set_result(["203.0.113.8"])
    assert {tuple(await task) for task in same} == {("203.0.113.8",)}
    # None of these waits for the next one.
    assert await servers.lookups.find("silent.example", "acc_c") == ["203.0.113.8"]
    assert servers.asked["silent.example"] == 1


async def test_one_that_waits_for_its_turn_delays_nobody() -> None:
    """Two accounts have the same host, and the one that asked first may not ask."""
    servers = NameServers()
    await servers.ask_silent("acc_a", 100)
    waiting = asyncio.create_task(servers.lookups.find("crm.example.com", "acc_a"))
    await quiet()
    assert not waiting.done()
    assert await servers.lookups.find("crm.example.com", "acc_b") == ["203.0.113.7"]
    servers.tasks.append(waiting)
    await servers.give_up()


async def test_addresses_are_kept_for_ten_seconds() -> None:
    servers = NameServers()
    for seconds, asked in ((0, 1), (CACHE_SECONDS - 1, 1), (CACHE_SECONDS, 2)):
        servers.now = seconds
        assert await servers.lookups.find("crm.example.com", "acc_a") == ["203.0.113.7"]
        assert servers.asked["crm.example.com"] == asked


async def test_one_that_gave_up_takes_no_turn() -> None:
    servers = NameServers()
    servers.lookups = Lookups(servers._lookup, at_once=1)
    await servers.ask_silent("acc_a", 3)
    servers.tasks[1].cancel()
    await quiet()
    await servers.answer_one()
    assert list(servers.asked) == ["0.silent.example", "2.silent.example"]
    await servers.give_up()


@pytest.fixture
def stuck_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The system's resolver answers no name before the event is set."""
    end = threading.Event()

    def stuck(*_: object, **__: object) -> Sequence[object]:
        end.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    yield end
    end.set()


async def test_a_thread_without_an_answer_delays_no_end(stuck_resolver: threading.Event) -> None:
    by_system = Lookups()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await by_system.find("silent.example", "acc_a")
    [thread] = [thread for thread in threading.enumerate() if thread.name == "blocking-call"]
    assert thread.daemon
    by_system.close()
