"""Five faults, each with its alert: it fires within its time, and what its runbook says ends it."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

import parts
from alerts.pictures import take_alerts, take_graphs
from alerts.rules import RULES, RUNBOOKS
from chaos.clocks import WRONG_CLOCK
from chaos.scenario import ScenarioRun
from chaos.supervisor import WORLD
from e2e.system import until
from real.prometheus import Prometheus

# From a fault until Prometheus has read it twice and evaluated its rules.
READ_SECONDS = 60
POLL_SECONDS = 1.0
DEAD_LETTERS = 25
CLOCK_SECONDS = 30
LONGER = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,3s,4s"}


def five(scenario_run: ScenarioRun, pictures: Path | None) -> None:
    """Two faults of stages after two of their surroundings, and a customer's endpoint that fails."""
    with prometheus(scenario_run, pictures) as watching:
        refusing = _dead_letters(scenario_run)
        _set_the_clock(scenario_run)
        since = time.time()
        assert scenario_run.supervisor.stop("publish") == 0
        for alert in ("DeadLettersGrowing", "PublisherMissing", "ClockSkew"):
            watching.fires(alert, since)
        scenario_run.supervisor.start("publish")
        scenario_run.supervisor.stop("fan-out")
        scenario_run.supervisor.start("fan-out")
        watching.ends("PublisherMissing", "ClockSkew")
        _retry(scenario_run, refusing)

        since = time.time()
        _need_a_topic(scenario_run)
        assert scenario_run.supervisor.stop("fan-out") == 0
        for alert in ("StageDown", "StageNotReady"):
            watching.fires(alert, since)
        watching.take_alerts()
        _apply(scenario_run)
        scenario_run.supervisor.start("fan-out")
        watching.ends("StageDown", "StageNotReady")
        watching.take_graphs()
    assert scenario_run.supervisor.stop("deliver") == 0
    scenario_run.supervisor.start("deliver")


class Watching:
    """Prometheus, which reads the stages wherever they run now."""

    def __init__(self, scenario_run: ScenarioRun, server: Prometheus, pictures: Path | None) -> None:
        self._system, self._server, self._pictures = scenario_run.loaded.system, server, pictures
        self._began = time.time()

    def fires(self, alert: str, since: float) -> None:
        """The alert fires no later than its rule says."""
        limit = since + wait_of(alert) + READ_SECONDS - time.time()
        until(lambda: name_of(alert) in self._firing(), limit, f"{alert} fires", POLL_SECONDS)
        print(f"  {alert} fired after {time.time() - since:.0f} s", flush=True)

    def ends(self, *alerts: str) -> None:
        """These alerts end, now that the cause is gone."""
        since = time.time()
        for alert in alerts:
            until(partial(self._is_quiet, alert), 2 * READ_SECONDS, f"{alert} ends", POLL_SECONDS)
            print(f"  {alert} ended after {time.time() - since:.0f} s", flush=True)

    def take_alerts(self) -> None:
        if self._pictures:
            take_alerts(self._server.url, self._pictures)

    def take_graphs(self) -> None:
        """From the beginning until now."""
        if self._pictures:
            take_graphs(self._server.url, math.ceil((time.time() - self._began) / 60), self._pictures)

    def _is_quiet(self, alert: str) -> bool:
        return name_of(alert) not in self._firing()

    def _firing(self) -> set[str]:
        self._server.watch({stage: self._system.health_port(stage) for stage in WORLD})
        return self._server.firing()


@contextmanager
def prometheus(scenario_run: ScenarioRun, pictures: Path | None) -> Iterator[Watching]:
    """Prometheus knows every stage, and no alert fires."""
    server = Prometheus(parts.prometheus_pages() if pictures else None)
    try:
        watching = Watching(scenario_run, server, pictures)
        system = scenario_run.loaded.system
        server.watch({stage: system.health_port(stage) for stage in WORLD})
        until(lambda: server.value("scorm_webhooks_ready") == len(WORLD), READ_SECONDS, "metrics read", POLL_SECONDS)
        assert server.firing() == set()
        yield watching
    finally:
        server.remove()


def _dead_letters(scenario_run: ScenarioRun) -> str:
    """An endpoint refuses events until enough of them are dead letters; its webhook's id."""
    webhook = scenario_run.customer("refusing", "refuse=40")
    until(lambda: _dead(scenario_run, webhook) >= DEAD_LETTERS, 300, "dead letters", POLL_SECONDS)
    return webhook


def _retry(scenario_run: ScenarioRun, webhook: str) -> None:
    """The customer corrects the endpoint; then the runbook's command delivers all."""
    system = scenario_run.loaded.system
    url = system.run("webhooks", "show", webhook, "--json")["url"]
    system.run("webhooks", "update", webhook, "--url", url.partition("?")[0])
    command = words_of("DeadLettersGrowing", "dead-letters retry")
    system.run(*(webhook if word == "<id>" else word for word in command), "--yes")
    until(lambda: _dead(scenario_run, webhook) == 0, 120, "no dead letter is left", POLL_SECONDS)


def _set_the_clock(scenario_run: ScenarioRun) -> None:
    """The clock of `fan-out` is wrong, and not so far that it stops."""
    assert scenario_run.supervisor.stop("fan-out") == 0
    fake = {"PYTHONPATH": str(WRONG_CLOCK), "WRONG_CLOCK_SECONDS": str(CLOCK_SECONDS)}
    scenario_run.supervisor.start("fan-out", **fake)
    system = scenario_run.loaded.system
    # The publisher's next sentinel tells it the broker's time.
    until(lambda: system.is_ready("fan-out") and abs(system.metric("fan-out", "clock_skew_seconds")) > 10, 60, "a skew")


def _need_a_topic(scenario_run: ScenarioRun) -> None:
    """`deliver` has a schedule whose last topic is missing."""
    assert scenario_run.supervisor.stop("deliver") == 0
    scenario_run.supervisor.start("deliver", **LONGER)


def _apply(scenario_run: ScenarioRun) -> None:
    with scenario_run.member("planner") as planner:
        planner.env |= LONGER
        assert "deliveries.retry.4s" in planner.run(*words_of("StageNotReady", "topics plan"))
        planner.run(*words_of("StageNotReady", "topics apply"))
    until(partial(scenario_run.loaded.system.is_ready, "deliver"), 30, "deliver is ready without a restart")


def _dead(scenario_run: ScenarioRun, webhook: str) -> int:
    return scenario_run.loaded.system.states(webhook).get("dead", 0)


def name_of(alert: str) -> str:
    return f"ScormWebhooks{alert}"


def wait_of(alert: str) -> float:
    """How long the cause lasts until the alert fires, in seconds: the shortest `for` of its rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    waits = [rule["for"] for group in groups for rule in group["rules"] if rule.get("alert") == name_of(alert)]
    units = {"s": 1, "m": 60, "h": 3600}
    return min(float(wait[:-1]) * units[wait[-1]] for wait in waits)


def words_of(alert: str, command: str) -> list[str]:
    """The words of a command as the alert's page has it."""
    page = (RUNBOOKS / f"{name_of(alert)}.md").read_text()
    found = re.search(rf"`(?:scorm-webhooks )?({command}[^`]*)`", page)
    assert found, f"the page of {alert} says nothing of {command}"
    return found[1].split()
