"""A whole system under load: broker, database, stages, customers; and what a scenario did to it."""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psycopg

from chaos.checker import FINAL, check, read
from chaos.crew import Crew
from chaos.load import Load
from e2e.system import System, until
from real.kafka import Kafka
from real.kafka_cluster import KafkaCluster
from real.postgres import Postgres

THINK_MS = 20
# The longest that a stage may take between two commits (the design's figure); the request before it took its time.
COMMIT_SECONDS = 1.0
REQUEST_SECONDS = 0.1
RECOVERY_SECONDS = 90.0
SETTLE_SECONDS = 180.0
# What has to be committed after a fault before the stage counts as recovered.
ENOUGH = {"fan-out": 20, "deliver": 20, "record": 20, "publish": 1}


class HastyKafka(Kafka):
    """Gives a killed member's place away after three seconds: kills in quick succession."""

    def _properties(self, port: int, controller: int) -> str:
        hasty = "group.consumer.session.timeout.ms=3000\ngroup.consumer.heartbeat.interval.ms=500\n"
        return super()._properties(port, controller) + hasty


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


class World:
    """Scenarios are played in it one after another, with the same stages and customers."""

    def __init__(self, kafka: Kafka | KafkaCluster, postgres: Postgres, prefix: str) -> None:
        self.kafka, self.postgres, self.prefix = kafka, postgres, prefix
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.database_url = postgres.url()
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": self.database_url,
            "SCORM_WEBHOOKS_TOPIC_PREFIX": prefix,
        }
        self.system = System(self.folder, env)
        self.system.prepare()
        self.crew = Crew(self.system, kafka.bootstrap, prefix)
        self.load = Load(self.folder, kafka.bootstrap, f"{prefix}session-events")
        self._receiver = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("receiver.py"), self.folder / "receipts"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._receiver.stdout
        self._port = int(self._receiver.stdout.readline())
        self.crew.start()
        self.crew.wait_until_ready()
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: self.account(), range(2))
            customers = [
                (first, "crm", f"think={THINK_MS}", ""),
                (first, "lms", f"think={THINK_MS}", "session.completed"),
                (first, "flaky", "flaky=7", ""),
                (second, "other", f"think={THINK_MS}", ""),
            ]
            list(pool.map(lambda customer: self.webhook(*customer), customers))
        self.load.busy = frozenset({first, second})

    def account(self) -> str:
        return self.system.account()

    def webhook(self, account: str, path: str, behaviour: str = "", types: str = "") -> str:
        """A new webhook's id; an account that is busy already must not get one, or nobody knew what is owed to it."""
        assert account not in self.load.busy
        url = f"http://127.0.0.1:{self._port}/{path}?{behaviour}"
        webhook: str = self.system.webhook(account, url, *(("--events", types) if types else ()))["id"]
        with (self.folder / "paths").open("a") as paths:
            paths.write(f"/{path} {webhook}\n")
        self.load.wants(account, webhook, types)
        return webhook

    def states(self, act: str) -> dict[str, int]:
        """How many deliveries of the act's events are in which state."""
        query = "SELECT state, count(*) FROM deliveries WHERE event_id LIKE %s GROUP BY state"
        try:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                return dict(connection.execute(query, [f"{act}:%"]).fetchall())
        except psycopg.OperationalError:
            return {}

    def is_settled(self, act: str) -> bool:
        states = self.states(act)
        return sum(states.values()) == sum(states.get(state, 0) for state in FINAL) == self.load.owed

    def close(self, *, keep_folder: bool = False) -> None:
        self.load.close()
        self.crew.close()
        self._receiver.communicate()
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Act:
    """One scenario: faults are done to the world through this, and counted."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        self.world, self.crew, self.name, self.seed = world, world.crew, name, seed
        self.dice = random.Random(seed)
        self.kills = 0
        self._doubts: list[tuple[float, float]] = []
        self._recoveries: list[float] = []
        self._own: set[str] = set()

    def customer(self, path: str, behaviour: str = "", types: str = "") -> str:
        """A webhook of an account of its own, busy as long as this scenario lasts."""
        account, load = self.world.account(), self.world.load
        webhook = self.world.webhook(account, f"{self.name}-{path}", behaviour, types)
        load.busy |= {account}
        self._own.add(account)
        return webhook

    @contextmanager
    def member(self, name: str) -> Iterator[System]:
        """Another machine of the same deployment, with no stage yet."""
        folder = self.world.folder / f"{self.name}-{name}"
        folder.mkdir()
        system = System(folder, self.world.system.env)
        try:
            yield system
        finally:
            system.close()

    def last(self, seconds: float) -> None:
        """How long an outage is: not to wait for something, but to let it do harm."""
        time.sleep(seconds)

    def doubt(self, since: float, until: float | None = None) -> None:
        """A fault: what was accepted from a commit before it until its end may be sent again (design §4)."""
        self._doubts.append((since - COMMIT_SECONDS - REQUEST_SECONDS, (until or time.time()) + REQUEST_SECONDS))

    def kill(self, stage: str) -> None:
        """kill -9 in mid-work, and wait until the stage commits again."""
        before = self.crew.progress(stage)
        at = self.crew.kill(stage)
        self.kills += 1
        # A repeat of any other stage is told apart by deliver, or by the database.
        if stage == "deliver":
            self.doubt(at)
        self.await_progress(stage, before, at)

    def restart(self, stage: str) -> None:
        """SIGTERM, start, and wait until the stage commits again."""
        before, at = self.crew.progress(stage), time.time()
        code = self.crew.stop(stage)
        assert code == 0, f"{stage} ended with {code}"
        self.crew.start(stage)
        self.await_progress(stage, before, at)

    def change(self, webhook: str) -> None:
        """Changes of a webhook that reach the topic."""
        for verb in ("pause", "enable"):
            assert self.world.system.run("webhooks", verb, webhook, "--json")["propagated"], f"{verb} of {webhook}"

    def await_progress(self, stage: str, before: int, since: float) -> None:
        """Wait until a stage has done more than it had `before`; the time `since` the fault is its recovery."""
        enough = before + ENOUGH[stage]
        until(lambda: self.crew.progress(stage) >= enough, RECOVERY_SECONDS, f"{stage} at work again")
        self._recoveries.append(time.time() - since)

    def end(self) -> None:
        """No more events; those of the scenario's own customers will not be missed later."""
        self.world.load.stop()
        self.world.load.busy -= self._own

    def row(self) -> Row:
        """Once it is over: what became of the act's events, and of all others."""
        of_this = f"{self.name}:"
        evidence = read(self.world.folder, self.world.database_url)
        verdict = check(evidence)
        allowed = sum(
            receipt.accepted and any(start <= receipt.at <= end for start, end in self._doubts)
            for receipt in evidence.receipts
        )
        return Row(
            scenario=self.name,
            events=self.world.load.events,
            deliveries=self.world.load.owed,
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
    play: Callable[[Act], None]
    rate: float = 60.0
    copies: int = 1
    poison: float = 0.0
    apart: bool = False


def perform(world: World, scenario: Scenario, seed: int) -> Row:
    """Play a scenario under load, let everything settle, and judge; what it waited for in vain is a complaint too."""
    act, complaints = Act(world, scenario.name, seed), []
    world.load.start(scenario.name, seed, scenario.rate, scenario.copies, scenario.poison)
    before = world.crew.progress("record")
    try:
        until(lambda: world.crew.progress("record") > before + 100, RECOVERY_SECONDS, "work under way")
        scenario.play(act)
        act.end()
        world.crew.wait_until_ready()
    except AssertionError as failed:
        complaints.append(str(failed))
        act.end()
    # What never settles is for the checker to name.
    with suppress(AssertionError):
        until(partial(world.is_settled, scenario.name), SETTLE_SECONDS)
    row = act.row()
    return replace(row, complaints=(*complaints, *row.complaints))
