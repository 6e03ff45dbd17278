"""One scenario, played: what it did to the world, and what that cost."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from chaos.checker import check, read
from chaos.system import LoadedSystem
from e2e.system import System, until

# The longest that a stage may take between two commits (the design's figure); the request before it took its time.
COMMIT_SECONDS = 1.0
REQUEST_SECONDS = 0.1
RECOVERY_SECONDS = 90.0
SETTLE_SECONDS = 180.0
# What has to be committed after a fault before the stage counts as recovered.
ENOUGH = {"fan-out": 20, "deliver": 20, "record": 20, "publish": 1}


@dataclass(frozen=True)
class Row:
    """A scenario's line in the table, and what the checker complains of."""

    scenario: str
    events: int
    deliveries: int
    kills: int
    lost: int
    doubled: int
    allowed: int
    recovery_seconds: float
    complaints: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.complaints and self.lost == 0 and self.doubled <= self.allowed


class ScenarioRun:
    """One scenario: faults are done to the world through this, and counted."""

    def __init__(self, loaded: LoadedSystem, name: str, seed: int) -> None:
        self.loaded, self.supervisor, self.name, self.seed = loaded, loaded.supervisor, name, seed
        self.dice = random.Random(seed)
        self.kills = 0
        self._doubts: list[tuple[float, float]] = []
        self._recoveries: list[float] = []
        self._own: set[str] = set()

    def customer(self, path: str, behaviour: str = "", types: str = "") -> str:
        """A webhook of an account of its own, busy as long as this scenario lasts."""
        account = self.loaded.account()
        webhook = self.loaded.webhook(account, f"{self.name}-{path}", behaviour, types)
        self.add(account)
        return webhook

    def add(self, account: str) -> None:
        """From now on as long as this scenario lasts the account has events."""
        self.loaded.load.busy |= {account}
        self._own.add(account)

    @contextmanager
    def member(self, name: str) -> Iterator[System]:
        """Another machine of the same deployment, with no stage yet."""
        folder = self.loaded.folder / f"{self.name}-{name}"
        folder.mkdir()
        system = System(folder, self.loaded.system.env)
        try:
            yield system
        finally:
            system.close()

    def last(self, seconds: float) -> None:
        """How long an outage is: not to wait for something, but to let it do harm."""
        time.sleep(seconds)

    def may_duplicate(self, since: float, until: float | None = None) -> None:
        """A fault: what was accepted from a commit before it until its end may be sent again (design §4)."""
        self._doubts.append((since - COMMIT_SECONDS - REQUEST_SECONDS, (until or time.time()) + REQUEST_SECONDS))

    def kill(self, stage: str) -> None:
        """kill -9 in mid-work, and wait until the stage commits again."""
        before = self.supervisor.progress(stage)
        at = self.supervisor.kill(stage)
        self.kills += 1
        # A repeat of any other stage is told apart by deliver, or by the database.
        if stage == "deliver":
            self.may_duplicate(at)
        self.await_progress(stage, before, at)

    def restart(self, stage: str) -> None:
        """SIGTERM, start, and wait until the stage commits again."""
        before, at = self.supervisor.progress(stage), time.time()
        code = self.supervisor.stop(stage)
        assert code == 0, f"{stage} ended with {code}"
        self.supervisor.start(stage)
        self.await_progress(stage, before, at)

    def change(self, webhook: str) -> None:
        """Changes of a webhook that reach the topic."""
        for verb in ("pause", "enable"):
            assert self.loaded.system.run("webhooks", verb, webhook, "--json")["propagated"], f"{verb} of {webhook}"

    def await_progress(self, stage: str, before: int, since: float) -> None:
        """Wait until a stage has done more than it had `before`; the time `since` the fault is its recovery."""
        enough = before + ENOUGH[stage]
        until(lambda: self.supervisor.progress(stage) >= enough, RECOVERY_SECONDS, f"{stage} at work again")
        self._recoveries.append(time.time() - since)

    def end(self) -> None:
        """No more events; those of the scenario's own customers will not be missed later."""
        self.loaded.load.stop()
        self.loaded.load.busy -= self._own

    def row(self) -> Row:
        """Once it is over: what became of the act's events, and of all others."""
        of_this = f"{self.name}:"
        evidence = read(self.loaded.folder, self.loaded.database_url)
        verdict = check(evidence)
        allowed = sum(
            receipt.accepted and any(start <= receipt.at <= end for start, end in self._doubts)
            for receipt in evidence.receipts
        )
        return Row(
            scenario=self.name,
            events=self.loaded.load.events,
            deliveries=self.loaded.load.owed,
            kills=self.kills,
            lost=len(verdict.lost),
            doubled=sum(n for (event, _), n in verdict.doubled.items() if event.startswith(of_this)),
            allowed=allowed,
            recovery_seconds=max(self._recoveries, default=0.0),
            complaints=tuple(verdict.complaints()),
        )


@dataclass(frozen=True)
class Scenario:
    """`play` does the faults; the load goes on meanwhile, in a cluster of three brokers if it is to be `apart`."""

    name: str
    play: Callable[[ScenarioRun], None]
    rate: float = 60.0
    copies: int = 1
    poison: float = 0.0
    apart: bool = False


def perform(loaded: LoadedSystem, scenario: Scenario, seed: int) -> Row:
    """Play a scenario under load, let everything settle, and judge; what it waited for in vain is a complaint too."""
    scenario_run, complaints = ScenarioRun(loaded, scenario.name, seed), []
    loaded.load.start(scenario.name, seed, scenario.rate, scenario.copies, scenario.poison)
    before = loaded.supervisor.progress("record")
    try:
        until(lambda: loaded.supervisor.progress("record") > before + 100, RECOVERY_SECONDS, "work under way")
        scenario.play(scenario_run)
        scenario_run.end()
        loaded.supervisor.wait_until_ready()
    except AssertionError as failed:
        complaints.append(str(failed))
        scenario_run.end()
    # What never settles is for the checker to name.
    with suppress(AssertionError):
        until(partial(loaded.is_settled, scenario.name), SETTLE_SECONDS)
    row = scenario_run.row()
    return replace(row, complaints=(*complaints, *row.complaints))
