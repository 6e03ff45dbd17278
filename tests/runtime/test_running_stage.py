"""Stages in one process: one that loses its lease starts again, and any other error ends the process."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest

from fakes import FakeTelemetry, quiet
from streams.core.errors import Misconfigured, ScormWebhooksError
from streams.runtime import process as process_module
from streams.runtime.process import run_process
from streams.runtime.running_stage import GroupedStage, Runnable
from streams.runtime.sockets import listen
from streams.stages.lease import LeaseLost
from streams.telemetry import PrometheusTelemetry, StagesCollector


class FakeStage:
    """A stage that runs until `ends` has an error."""

    def __init__(self) -> None:
        self.ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problems: list[str] = []
        self.is_drained = False

    async def run(self) -> None:
        await self.ends

    async def drain(self) -> None:
        self.is_drained = True

    def readiness_problems(self) -> list[str]:
        return self.problems


class GroupFixture:
    """The stages `a` and `b` in one process."""

    def __init__(self) -> None:
        self.made: dict[str, list[FakeStage]] = {"a": [], "b": []}
        self.telemetries: dict[str, list[FakeTelemetry]] = {"a": [], "b": []}
        self.telemetry = FakeTelemetry()
        self.stages = [GroupedStage(name, self._prepare(name), self._new_telemetry) for name in self.made]

    def start(self) -> None:
        registry, listening = CollectorRegistry(), listen("127.0.0.1", 0, "HEALTH")
        running = run_process(self.stages, self.telemetry, registry, listening, stop_seconds=25, ends_with_stdin=False)
        self.running = asyncio.create_task(running)

    def newest(self, name: str) -> FakeStage:
        return self.made[name][-1]

    def problems(self) -> list[str]:
        return process_module._readiness_problems(self.stages)

    def _new_telemetry(self, name: str) -> FakeTelemetry:
        self.telemetries[name].append(FakeTelemetry())
        return self.telemetries[name][-1]

    def _prepare(self, name: str) -> Callable[[FakeTelemetry, Callable[[str], None]], "asyncio.Future[Runnable]"]:
        async def prepare() -> Runnable:
            self.made[name].append(FakeStage())
            return self.newest(name)

        return lambda telemetry, note: asyncio.ensure_future(prepare())


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the garbage collector was frozen."""
    calls: list[str] = []
    monkeypatch.setattr(process_module, "_exit_after", lambda *_: None)
    monkeypatch.setattr(process_module, "GARBAGE_THRESHOLDS", gc.get_threshold())
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    return calls


@pytest_asyncio.fixture
async def group(frozen: list[str]) -> AsyncIterator[GroupFixture]:
    fixture = GroupFixture()
    fixture.start()
    await quiet()
    yield fixture
    if not fixture.running.done():
        fixture.newest("b").ends.cancel()
        await fixture.running


async def test_a_lost_lease_restarts_that_stage_alone(group: GroupFixture, frozen: list[str]) -> None:
    group.newest("a").ends.set_exception(LeaseLost("another process took the lease over"))
    await quiet()
    assert (len(group.made["a"]), len(group.made["b"])) == (2, 1)
    assert group.telemetries["a"][0].logged_count("stage_restarted") == 1
    # Its gauges begin again: it is no publisher any more.
    assert (len(group.telemetries["a"]), group.stages[0].telemetry) == (2, group.telemetries["a"][1])
    assert not group.running.done()
    assert frozen == ["freeze"]


@pytest.mark.parametrize("error", [Misconfigured("a setting is wrong"), ScormWebhooksError("a consumer stands still")])
async def test_another_error_ends_the_process(group: GroupFixture, error: ScormWebhooksError) -> None:
    group.newest("a").ends.set_exception(error)
    with pytest.raises(type(error), match=str(error)):
        await group.running
    assert group.telemetries["a"][0].logged_count("stage_failed") == 1
    assert (group.newest("a").is_drained, group.newest("b").is_drained) == (False, True)


async def test_a_problem_has_the_name_of_its_stage(group: GroupFixture) -> None:
    assert group.problems() == []
    group.newest("b").problems = ["the database is away"]
    assert group.problems() == ["b: the database is away"]


async def test_a_cause_of_several_stages_is_named_once(group: GroupFixture) -> None:
    group.newest("a").problems = ["no broker answers", "a topic is missing", "no broker answers"]
    group.newest("b").problems = ["no broker answers"]
    assert group.problems() == ["a, b: no broker answers", "a: a topic is missing"]
    assert group.stages[0].readiness_problems() == ["no broker answers", "a topic is missing"]


async def test_a_stage_that_is_not_made_is_not_ready(frozen: list[str]) -> None:
    group = GroupFixture()
    assert group.problems() == ["a, b: is starting"]
    assert frozen == []


def test_metrics_of_two_stages_do_not_collide() -> None:
    stages = {name: PrometheusTelemetry(name) for name in ("publish", "maintain")}
    stages["publish"].count("webhooks_published_total", 3)
    stages["maintain"].count("rows_pruned_total", 2, kind="jobs")
    stages["maintain"].gauge_all("held_deliveries", {("paused",): 7})
    registry = CollectorRegistry()
    registry.register(StagesCollector(lambda: stages))
    text = generate_latest(registry).decode()
    assert 'scorm_webhooks_webhooks_published_total{stage="publish"} 3.0' in text
    assert 'scorm_webhooks_webhooks_published_total{stage="maintain"} 0.0' in text
    assert 'scorm_webhooks_rows_pruned_total{kind="jobs",stage="maintain"} 2.0' in text
    assert 'scorm_webhooks_held_deliveries{reason="paused",stage="maintain"} 7.0' in text
    assert text.count("# TYPE scorm_webhooks_ready gauge") == 1
