"""Runs one scenario: its faults, and their cost."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from chaos.checker import check, read
from chaos.system import LoadedSystem
from e2e.system import System, until

# Kinds of brokers: those that scenarios share, and others that a scenario has for itself.
SHARED, THREE, CLASSIC, KAFKA_3_7, KAFKA_3_9 = "shared", "three", "classic", "3.7", "3.9"

# The longest time between two commits; a request before the commit took time too.
COMMIT_SECONDS = 1.0
REQUEST_SECONDS = 0.1
RECOVERY_SECONDS = 90.0
SETTLE_SECONDS = 180.0
# `fan-out` has produced again what it had not committed, and `deliver` has dropped it.
DROPPED_SECONDS = 20.0
# Records to commit after a fault until the stage counts as recovered.
ENOUGH = {"fan-out": 20, "deliver": 20, "record": 20, "publish": 1}


@dataclass(frozen=True)
class Row:
    """A scenario's line in the table, and the checker's complaints."""

    scenario: str
    events: int
    deliveries: int
    kills: int
    lost: int
    repeated: int
    allowed: int
    recovery_seconds: float
    complaints: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.complaints and self.lost == 0 and self.repeated <= self.allowed


class ScenarioRun:
    """The faults of one scenario, and what they may cost."""

    def __init__(self, loaded: LoadedSystem, name: str, seed: int) -> None:
        self.loaded, self.supervisor, self.name, self.seed = loaded, loaded.supervisor, name, seed
        self.random = random.Random(seed)
        self.kills = 0
        self._may_repeat = 0
        self._doubts: list[tuple[float, float]] = []
        self._fan_out_kills: list[float] = []
        self._recoveries: list[float] = []
        self._own: set[str] = set()

    def customer(self, path: str, behaviour: str = "", types: str = "") -> str:
        """Register a webhook of a new account, which has events during this scenario."""
        account = self.loaded.account()
        webhook = self.loaded.webhook(account, f"{self.name}-{path}", behaviour, types)
        self.add(account)
        return webhook

    def add(self, account: str) -> None:
        """Publish events of this account until the end of the scenario."""
        self.loaded.load.busy |= {account}
        self._own.add(account)

    @contextmanager
    def member(self, name: str) -> Iterator[System]:
        """Another machine of the same deployment, without stages."""
        folder = self.loaded.folder / f"{self.name}-{name}"
        folder.mkdir()
        system = System(folder, self.loaded.system.env, own_imports=True)
        try:
            yield system
        finally:
            system.close()

    def hold_for(self, seconds: float) -> None:
        """Let a fault last this long."""
        time.sleep(seconds)

    def may_repeat(self, requests: int) -> None:
        """Allow this many requests to be repeated."""
        self._may_repeat += requests

    def may_duplicate(self, since: float, until: float | None = None) -> None:
        """Requests from the last commit before a fault until its end may be repeated."""
        self._doubts.append((since - COMMIT_SECONDS - REQUEST_SECONDS, (until or time.time()) + REQUEST_SECONDS))

    def kill(self, stage: str) -> None:
        """kill -9 under load, and wait until the stage commits again."""
        before = self.supervisor.progress(stage)
        at = self.supervisor.kill(stage)
        self.kills += 1
        # `deliver` or the database drops repeats of other stages, `deliver` unless it has just forgotten what it sent.
        if stage == "fan-out":
            self._fan_out_kills.append(at)
        if stage == "deliver":
            self.may_duplicate(at)
            for earlier in self._fan_out_kills:
                if earlier > at - DROPPED_SECONDS:
                    self.may_duplicate(earlier, earlier)
        self.await_progress(stage, before, at)

    def restart(self, stage: str) -> None:
        """Restart a stage by SIGTERM, and wait until it commits again."""
        before, at = self.supervisor.progress(stage), time.time()
        code = self.supervisor.stop(stage)
        assert code == 0, f"{stage} ended with {code}"
        self.supervisor.start(stage)
        self.await_progress(stage, before, at)

    def change(self, webhook: str) -> None:
        """Pause and enable a webhook; both changes must be published."""
        for verb in ("pause", "enable"):
            assert self.loaded.system.run("webhooks", verb, webhook, "--json")["propagated"], f"{verb} of {webhook}"

    def await_progress(self, stage: str, before: int, since: float) -> None:
        """Wait for progress beyond `before`; record the time `since` the fault as the recovery."""
        enough = before + ENOUGH[stage]
        until(lambda: self.supervisor.progress(stage) >= enough, RECOVERY_SECONDS, f"{stage} commits again")
        self._recoveries.append(time.time() - since)

    def end(self) -> None:
        """Stop the events; the scenario's own accounts get none later."""
        self.loaded.load.stop()
        self.loaded.load.busy -= self._own

    def row(self) -> Row:
        """The result of the scenario, after its end."""
        of_this = f"{self.name}:"
        evidence = read(self.loaded.folder, self.loaded.database_url)
        verdict = check(evidence)
        allowed = self._may_repeat + sum(
            receipt.accepted and any(start <= receipt.at <= end for start, end in self._doubts)
            for receipt in evidence.receipts
        )
        return Row(
            scenario=self.name,
            events=self.loaded.load.events,
            deliveries=self.loaded.load.owed,
            kills=self.kills,
            lost=len(verdict.lost),
            repeated=sum(n for (event, _), n in verdict.repeated.items() if event.startswith(of_this)),
            allowed=allowed,
            recovery_seconds=max(self._recoveries, default=0.0),
            complaints=tuple(verdict.complaints()),
        )


@dataclass(frozen=True)
class Scenario:
    """`play` injects the faults under load, on brokers of their own where `on` names a kind of them."""

    name: str
    play: Callable[[ScenarioRun], None]
    rate: float = 60.0
    copies: int = 1
    invalid_share: float = 0.0
    on: str = SHARED


def perform(loaded: LoadedSystem, scenario: Scenario, seed: int) -> Row:
    """Run a scenario under load, wait until all is settled, and check; a timeout is a complaint too."""
    scenario_run, complaints = ScenarioRun(loaded, scenario.name, seed), []
    loaded.load.start(scenario.name, seed, scenario.rate, scenario.copies, scenario.invalid_share)
    before = loaded.supervisor.progress("record")
    try:
        until(lambda: loaded.supervisor.progress("record") > before + 100, RECOVERY_SECONDS, "events being recorded")
        scenario.play(scenario_run)
        scenario_run.end()
        loaded.supervisor.wait_until_ready()
    except AssertionError as error:
        complaints.append(str(error))
        scenario_run.end()
    # The checker names what never settles.
    with suppress(AssertionError):
        until(partial(loaded.is_settled, scenario.name), SETTLE_SECONDS)
    row = scenario_run.row()
    return replace(row, complaints=(*complaints, *row.complaints, *loaded.standstills()))
