"""`python -m chaos.drill`: upgrades under load, stage by stage: to this checkout, and to two made-up releases after it.

It begins with the newest release of releases.toml, built from its commit, or with the commit in UPGRADE_FROM. The first
made-up release reads a new field and has a new column, the second writes the field. Each step is made, taken back, and
made again. Nothing may be lost or repeated, no process may meet a record that it cannot read, and webhooks, dead
letters and held deliveries stay.
"""

import argparse
import io
import random
import signal
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
import psycopg

import parts
from chaos.builds import (
    ADDED,
    READING,
    WRITING,
    Build,
    build,
    released_commit,
    source_of_commit,
    source_that_reads,
    source_that_writes,
)
from chaos.kills import restless_customer
from chaos.meters import Topic
from chaos.scenario import Row, Scenario, ScenarioRun, perform
from chaos.soak import OTHERS, others
from chaos.supervisor import WORLD
from chaos.system import FastSessionKafka, LoadedSystem
from chaos.table import table
from chaos.webhooks import has_delivery
from e2e.system import STAGES, until
from fakes import newer_schemas
from real.postgres import Postgres
from streams.adapters.avro.codec import HEADER_BYTES, fingerprint_header

NAME = "upgrade-drill"
WAIT_SECONDS = 60.0
SETTLE_SECONDS = 120.0
RULES = {"filter": {"scoreRaw": {"gte": 90}}}
NEWEST_DELIVERY: Any = newer_schemas()["delivery"][-1]


class Kept:
    """What customers have before the first step, and must have after each: a filter, a pause, dead letters."""

    def __init__(self, scenario_run: ScenarioRun) -> None:
        self._run = scenario_run
        loaded = scenario_run.loaded
        account = loaded.account()
        chosen = loaded.webhook(account, "chosen", types="session.completed", rules=RULES)
        self._paused = loaded.webhook(account, "paused")
        refusing = loaded.webhook(account, "refusing", "refuse=40")
        scenario_run.add(account)
        loaded.system.run("webhooks", "pause", self._paused)
        until(partial(has_delivery, scenario_run, self._paused, "held"), WAIT_SECONDS, "something held")
        until(partial(has_delivery, scenario_run, refusing, "dead"), WAIT_SECONDS, "a dead letter")
        self._webhooks = (chosen, self._paused)
        self._shown = self._show()
        self._dead = self._dead_letters()

    def check(self) -> None:
        """Raises `AssertionError` for anything that is not as it was. A newer release may show more of a webhook."""
        shown = self._show()
        for webhook, before in self._shown.items():
            now = shown[webhook]
            assert {name: now.get(name) for name in before} == before, f"{webhook} was {before}, and is {now}"
        assert self._dead_letters() >= self._dead, "dead letters are gone"

    def deliver(self) -> None:
        """End the pause: what was held since the first release is delivered."""
        self._run.loaded.system.run("webhooks", "enable", self._paused)
        until(lambda: not has_delivery(self._run, self._paused, "held"), SETTLE_SECONDS, "nothing is held any more")

    def _show(self) -> dict[str, dict[str, Any]]:
        """Each webhook with its secret, which is decrypted."""
        run = self._run.loaded.system.run
        return {
            webhook: run("webhooks", "show", webhook, "--json") | run("webhooks", "secret", webhook, "--json")
            for webhook in self._webhooks
        }

    def _dead_letters(self) -> set[str]:
        with psycopg.connect(self._run.loaded.database_url) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM deliveries WHERE state = 'dead'").fetchall()}


def play(scenario_run: ScenarioRun, builds: list[Build]) -> None:
    loaded, steps = scenario_run.loaded, list(pairwise(builds))
    with others(scenario_run), restless_customer(scenario_run):
        kept = Kept(scenario_run)
        for number, (older, newer) in enumerate(steps, 1):
            for release in (newer, older, newer):
                print(f"step {number} of {len(steps)}: {release.name}", flush=True)
                replace_all(scenario_run, release)
                kept.check()
        kept.deliver()
        scenario_run.end()
        until(partial(loaded.is_settled, scenario_run.name), SETTLE_SECONDS, "all is delivered, held or dead")
    assert not loaded.supervisor.exits, f"processes ended by themselves: {loaded.supervisor.exits}"
    assert loaded.logged("newer_record") == [], "a process met a record that it cannot read"
    written = added_fields(scenario_run)
    assert written == {ADDED}, f"the new field has the values {written}"


def replace_all(scenario_run: ScenarioRun, release: Build) -> None:
    """The steps of docs/upgrades.md; on the way back the tables and topics of the newer release are there already."""
    system, supervisor = scenario_run.loaded.system, scenario_run.supervisor
    system.python = release.python
    said = system.run("--version")
    assert release.name not in (READING, WRITING) or said.startswith(release.name), said
    system.prepare()
    for stage in STAGES:
        scenario_run.restart(stage)
    for stage in (one for one in WORLD if one not in STAGES):
        assert supervisor.stop(stage) == 0, stage
        supervisor.start(stage)
    supervisor.wait_until_ready()
    for stage in OTHERS:
        assert system.stop(stage) == 0, stage
        system.start([stage])


def added_fields(scenario_run: ScenarioRun) -> set[str]:
    """The values of the new field, of all records of deliveries that were written with it."""
    newest, schema = fingerprint_header(NEWEST_DELIVERY), fastavro.parse_schema(NEWEST_DELIVERY)
    values = (value for value in Topic(scenario_run, "deliveries").values() if value[:HEADER_BYTES] == newest)
    records: Any = (fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None) for value in values)
    return {record["addedLater"] for record in records}


def make_builds(folder: Path) -> list[Build]:
    """The releases in their order, each built for this run."""
    sources: dict[str, Path] = {}
    if commit := released_commit():
        sources["before"] = source_of_commit(commit, folder / "before")
    else:
        print("releases.toml has no release yet: this checkout is the first one", flush=True)
    sources["checkout"] = parts.ROOT
    sources[READING] = source_that_reads(folder / READING)
    sources[WRITING] = source_that_writes(sources[READING], folder / WRITING)
    builds = []
    for name, source in sources.items():
        print(f"building {name}", flush=True)
        builds.append(build(name, source, folder))
    return builds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.drill", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the load (default: random)")
    given = parser.parse_args()
    # A signal to this process must end all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        row = drill(make_builds(Path(folder)), given.seed)
    print(*row.complaints, table([row]), f"seed {given.seed}", sep="\n")
    return 0 if row.is_good else 1


def drill(builds: list[Build], seed: int) -> Row:
    postgres, kafka = Postgres(), FastSessionKafka()
    loaded, row = None, None
    try:
        loaded = LoadedSystem(kafka, postgres, "", builds[0].python)
        row = perform(loaded, Scenario(NAME, partial(play, builds=builds)), seed)
        return row
    finally:
        if loaded:
            is_good = row is not None and row.is_good
            if not is_good:
                print(f"the logs and notes are in {loaded.folder}", flush=True)
            loaded.close(keep_folder=not is_good)
        kafka.remove()
        postgres.remove()


if __name__ == "__main__":
    sys.exit(main())
