"""`Outage` retries until an outage ends, and logs its start and its end once."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from fakes import FakeTelemetry, until
from streams.core.encryption import WrongKeys
from streams.core.errors import RowRefused, Unavailable
from streams.outage import BROKER, DATABASE, ENCRYPTION_KEYS, OutageKind, Outages

AWAY = {"why": "connection refused"}


class Dependency:
    """Raises `error` while it is set. Each call advances `now` by two seconds."""

    def __init__(self) -> None:
        self.error: Exception | None = Unavailable("connection refused")
        self.calls = 0
        self.now = 0.0

    async def ask(self) -> str:
        self.calls += 1
        self.now += 2
        if self.error is not None:
            raise self.error
        return "answer"


class OutageFixture:
    def __init__(self) -> None:
        self.telemetry, self.dependency = FakeTelemetry(), Dependency()
        self.outages = Outages(self.telemetry, now=lambda: self.dependency.now)

    def ask(self) -> Awaitable[str]:
        return self.outages.retry(self.dependency.ask, 0, ENCRYPTION_KEYS, DATABASE)

    async def waiting(self, count: int = 1) -> Sequence["asyncio.Future[str]"]:
        tasks = [asyncio.ensure_future(self.ask()) for _ in range(count)]
        await until(lambda: self.dependency.calls > 5 * count)
        return tasks


@pytest.fixture
def fixture() -> OutageFixture:
    return OutageFixture()


async def test_without_an_outage_nothing_is_logged(fixture: OutageFixture) -> None:
    fixture.dependency.error = None
    assert await fixture.ask() == "answer"
    assert (fixture.dependency.calls, fixture.telemetry.logged) == (1, [])


async def test_start_and_end_are_logged_once_with_seconds(fixture: OutageFixture) -> None:
    [task] = await fixture.waiting()
    assert fixture.telemetry.logged == [("database_unreachable", AWAY)]
    fixture.dependency.error = None
    assert await task == "answer"
    seconds = fixture.dependency.now - 2.0
    assert fixture.telemetry.logged[1:] == [("database_reachable", {"seconds": seconds})]


async def test_several_waiters_are_logged_once(fixture: OutageFixture) -> None:
    tasks = await fixture.waiting(3)
    assert fixture.telemetry.logged == [("database_unreachable", AWAY)]
    fixture.dependency.error = None
    assert await asyncio.gather(*tasks) == ["answer"] * 3
    assert [event for event, _ in fixture.telemetry.logged] == ["database_unreachable", "database_reachable"]


async def test_another_error_ends_the_outage_and_is_raised(fixture: OutageFixture) -> None:
    [task] = await fixture.waiting()
    fixture.dependency.error = RowRefused("a value too long")
    with pytest.raises(RowRefused):
        await task
    assert fixture.telemetry.logged[-1][0] == "database_reachable"


async def test_a_cancelled_waiter_logs_no_end_of_the_outage(fixture: OutageFixture) -> None:
    [task] = await fixture.waiting()
    task.cancel()
    await asyncio.wait({task})
    assert [event for event, _ in fixture.telemetry.logged] == ["database_unreachable"]
    assert fixture not in fixture.outages[DATABASE]


async def test_the_first_matching_kind_names_the_outage(fixture: OutageFixture) -> None:
    fixture.dependency.error = WrongKeys()
    [task] = await fixture.waiting()
    fixture.dependency.error = Unavailable("connection refused")
    await until(lambda: fixture.telemetry.logged_count("database_unreachable") == 1)
    fixture.dependency.error = None
    await task
    events = ["encryption_keys_wrong", "encryption_keys_right", "database_unreachable", "database_reachable"]
    assert [event for event, _ in fixture.telemetry.logged] == events


async def test_an_outage_of_another_kind_is_raised(fixture: OutageFixture) -> None:
    with pytest.raises(Unavailable):
        await fixture.outages.retry(fixture.dependency.ask, 0, ENCRYPTION_KEYS)


@pytest.mark.parametrize(("kind", "level"), [(BROKER, "warning"), (ENCRYPTION_KEYS, "error")])
def test_an_outage_that_needs_a_person_is_an_error(kind: OutageKind, level: str) -> None:
    levels: list[str] = []

    class Levels(FakeTelemetry):
        def warning(self, event: str, /, **fields: object) -> None:
            levels.append("warning")

        def error(self, event: str, /, **fields: object) -> None:
            levels.append("error")

    outage = Outages(Levels())[kind]
    outage.begin("a", "no answer")
    assert levels == [level]


def test_an_outage_ends_with_its_last_waiter(fixture: OutageFixture) -> None:
    outage = fixture.outages[BROKER]
    outage.begin("consumer", "no answer")
    outage.begin("producer", "no answer")
    outage.end("consumer")
    assert "producer" in outage
    assert fixture.telemetry.logged_count("broker_reachable") == 0
    outage.end("producer")
    outage.end("producer")
    assert fixture.telemetry.logged_count("broker_reachable") == 1
