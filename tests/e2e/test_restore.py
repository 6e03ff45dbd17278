"""A restore of an older dump: what happened after the dump still holds, and nothing is lost or sent twice."""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.system import FastSessionKafka
from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, encoded
from e2e.operator import DATABASE_STAGES, Operator, restore_command
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.postgres import Postgres
from streams.adapters.encryption import generate_key
from streams.core.restore import RestoreStep

pytestmark = pytest.mark.e2e

ADA = "ada.lovelace@uni.example"
IMPATIENT = ("--set", 'pauseAfter={"failures": 2, "minutes": 0}')


def publish(platform: Platform, account: str, event_id: str, learner: str = "grace") -> None:
    data = {"sessionId": f"sess_{learner[:3]}", "packageId": "pkg_1", "dispatchId": None, "learnerId": learner}
    record = ("scormwebhooks.v1.SessionLaunched", data)
    platform.publish(event_id, encoded(event_id, "session.launched", account, record, datetime.now(UTC)))
    platform.flush()


class Drill:
    """A system whose dump is older than a deletion, a registration, an erasure, and a repaired endpoint."""

    def __init__(self, system: System, receiver: Receiver, folder: Path) -> None:
        self.system, self.receiver, self.operator = system, receiver, Operator(system)
        self.platform = Platform(
            system.env["KAFKA_BOOTSTRAP_SERVERS"], f"{system.env['SCORM_WEBHOOKS_TOPIC_PREFIX']}session-events"
        )
        self.since = datetime.now(UTC)
        system.start((*STAGES, "meter"))
        self.account = system.account()
        self.kept, self.deleted, self.repaired = (
            system.webhook(self.account, receiver.url(path), *IMPATIENT)["id"]
            for path in ("/kept", "/deleted", "/broken")
        )
        publish(self.platform, self.account, "evt_ada", ADA)
        self._await_delivered("evt_ada", self.kept, self.deleted, self.repaired)
        until(lambda: system._rows("SELECT 1 FROM counted_launches"), 30, "the launch is counted")
        self.dump = self.operator.dump(folder / "webhooks.dump")
        self._go_on_after_the_dump()

    def _go_on_after_the_dump(self) -> None:
        system, receiver = self.system, self.receiver
        system.run("webhooks", "delete", self.deleted, "--yes")
        self.young = system.webhook(self.account, receiver.url("/young"))["id"]
        receiver.responses["/broken"] = lambda request: 500
        publish(self.platform, self.account, "evt_late")
        until(lambda: self._status(self.repaired) == "paused", 60, "the broken endpoint pauses its webhook")
        del receiver.responses["/broken"]
        system.run("webhooks", "enable", self.repaired, "--held", "deliver")
        self._await_delivered("evt_late", self.kept, self.repaired, self.young)
        system.stop("deliver")
        publish(self.platform, self.account, "evt_owed", ADA)
        until(lambda: "waiting" in system.states(self.kept), 60, "a delivery waits in its topic")
        system.run("learners", "erase", self.account, ADA, "--yes")

    def stop(self) -> None:
        for stage in DATABASE_STAGES:
            self.system.stop(stage)
        self.system.stop_commands_api()

    def _status(self, webhook: str) -> str:
        return str(self.system._rows("SELECT status FROM webhooks WHERE id = %(id)s", id=webhook)[0]["status"])

    def _await_delivered(self, event_id: str, *webhooks: str) -> None:
        for webhook in webhooks:
            until(partial(self.has_delivered, webhook, event_id), 60, f"{event_id} for {webhook}")

    def has_delivered(self, webhook: str, event_id: str) -> bool:
        rows = [row for row in self.system.deliveries(webhook) if row["event_id"] == event_id]
        return [row["state"] for row in rows] == ["delivered"]

    def assert_nothing_came_back(self, output: str) -> None:
        """What happened after the dump still holds, and the stages go on."""
        system, receiver = self.system, self.receiver
        for result in ("webhooks made after", "webhooks deleted after", "learners erased"):
            assert re.search(rf"^{result}.* 1$", output, re.MULTILINE), output
        sent = {path: receiver.ids(path) for path in ("/kept", "/broken", "/deleted", "/young")}
        # `record` has read everything after the dump. The webhook that failed during that time stays active.
        assert self.has_delivered(self.kept, "evt_late")
        assert self.has_delivered(self.repaired, "evt_late")
        assert self._status(self.repaired) == "active"
        system.start((*DATABASE_STAGES, "deliver"))
        publish(self.platform, self.account, "evt_new")
        self._await_delivered("evt_new", self.kept, self.repaired)
        for path in ("/kept", "/broken"):
            assert receiver.ids(path) == [*sent[path], "evt_new"]
        for path in ("/deleted", "/young"):
            assert receiver.ids(path) == sent[path]
        assert [row for row in self.rows_of_all_tables() if ADA in row] == []

    def rows_of_all_tables(self) -> list[str]:
        query = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
        names = [table["name"] for table in self.system._rows(query)]
        return [
            json.dumps(row, default=text_of) for name in names for row in self.system._rows(f"SELECT * FROM {name}")
        ]


def text_of(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@pytest.fixture
def drill(postgres: Postgres, topic_prefix: str, receiver: Receiver, tmp_path: Path) -> Iterator[Drill]:
    # On this broker a member that was killed leaves its group after three seconds, not 45.
    kafka = FastSessionKafka()
    try:
        for system in prepared(Broker(kafka.bootstrap, topic_prefix), postgres, topic_prefix, tmp_path):
            yield Drill(system, receiver, tmp_path)
    finally:
        kafka.remove()


def test_a_restore_that_is_killed_goes_on(drill: Drill) -> None:
    """It is killed after each step, and brings nothing back that ended after the dump."""
    operator, since = drill.operator, drill.since
    assert "has members: stop every process of" in operator.refusal(drill.dump, since, code=1)
    drill.stop()
    assert "must not be after the dump" in operator.refusal(drill.dump, since + timedelta(days=1), code=2)
    before = drill.rows_of_all_tables()
    assert operator.restore(drill.dump, since, "--plan").count("to do") == len(RestoreStep)
    assert drill.rows_of_all_tables() == before
    for step in RestoreStep:
        operator.restore_and_kill(drill.dump, since, f"{step}: done")
    output = operator.restore(drill.dump, since)
    assert output.count(" done ") == len(RestoreStep)
    drill.assert_nothing_came_back(output)


# -- dumps that do not fit, on SQLite -------------------------------------------------------------------------------


@pytest.fixture
def on_sqlite(kafka: Broker, topic_prefix: str, sqlite: str, tmp_path: Path) -> Iterator[System]:
    """A system on SQLite that was stopped after a webhook was published."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": sqlite,
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
    }
    system = System(tmp_path, env)
    try:
        system.prepare()
        system.start(["publish"])
        system.run("webhooks", "create", "--account", system.account(), "--url", "http://127.0.0.1:9/crm")
        yield system
    finally:
        system.close()


def backup(source: Path, target: Path, *statements: str) -> Path:
    """Copy a database of SQLite, and change the copy."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        for statement in statements:
            new.execute(statement)
        new.commit()
    return target


def test_a_dump_that_does_not_fit_is_refused(on_sqlite: System, tmp_path: Path) -> None:
    database, since = tmp_path / "db.sqlite", datetime.now(UTC) - timedelta(minutes=1)
    dump = backup(database, tmp_path / "webhooks.dump")
    newer = backup(database, tmp_path / "newer", "UPDATE alembic_version SET version_num = '0009'")
    cut = tmp_path / "cut"
    cut.write_bytes(dump.read_bytes()[:-4096])

    def refusal(code: int, dump: Path = dump, env: Mapping[str, str] = {}) -> str:
        done = System(tmp_path, {**on_sqlite.env, **env}).attempt(*restore_command(dump, since), "--yes")
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "open: stop `up` and every stage first" in refusal(1)
    on_sqlite.stop("publish")
    on_sqlite.stop_commands_api()
    assert "is damaged, or not complete" in refusal(2, cut)
    assert "a newer release made it (schema 0009" in refusal(2, newer)
    assert "no key decrypts" in refusal(2, env={"SCORM_WEBHOOKS_ENCRYPTION_KEYS": generate_key()})
    prefix = {"SCORM_WEBHOOKS_TOPIC_PREFIX": random_prefix()}
    System(tmp_path, {**on_sqlite.env, **prefix}).run("topics", "apply")
    assert "of another deployment" in refusal(1, env=prefix)
    with closing(sqlite3.connect(database)) as lost:
        lost.execute("DELETE FROM webhooks")
        lost.commit()
    no = on_sqlite.answer("n\n", *restore_command(dump, since))
    assert (no.returncode, "Restore?" in no.stderr, on_sqlite.run("webhooks", "list", "--json")) == (1, True, [])
    on_sqlite.stop_commands_api()
    output = on_sqlite.run(*restore_command(dump, since), "--yes")
    assert "record: done" in output
    assert len(on_sqlite.run("webhooks", "list", "--json")) == 1
    # A snapshot was restored by other means.
    on_sqlite.stop_commands_api()
    output = on_sqlite.run("restore", "--since", since.isoformat(), "--yes")
    assert "use the database as it is restored" in output
    assert "record: done" in output
