"""A release under load: events by Kafka, endpoints on the node, and the checker of the chaos tests."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from chaos import receiver
from chaos.checker import read
from chaos.load import Load
from chaos.settled import is_settled
from e2e.system import until
from kube.happening import Happening, Row
from kube.kubectl import Resource
from kube.namespaces import NODE_ADDRESS
from kube.pods import PodWatch
from kube.release import Release, stage_of
from kube.stores import BOOTSTRAP, DATABASE_URL_ON_NODE

EVENTS_PER_SECOND = 20.0
DELAY_MS = 20
READY_SECONDS = 120.0
SETTLE_SECONDS = 120.0


class LoadedRelease:
    """Two accounts with three webhooks, which get events while something happens."""

    def __init__(self, release: Release, folder: Path, rows: list[Row]) -> None:
        self.release, self._rows = release, rows
        self._folder = folder / "evidence"
        self._folder.mkdir()
        self._watch = PodWatch(release.kubectl, folder)
        self._load = Load(self._folder, BOOTSTRAP, "session-events")
        self._receiver = subprocess.Popen(
            [sys.executable, receiver.__file__, self._folder / "receipts", NODE_ADDRESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._receiver.stdout
        self._port = int(self._receiver.stdout.readline())
        first, second = self._account(), self._account()
        self._webhook(first, "crm", f"delay={DELAY_MS}")
        self._webhook(first, "flaky", "flaky=7")
        self._webhook(second, "other", f"delay={DELAY_MS}")
        self._load.busy = frozenset({first, second})

    @contextmanager
    def under_load(self, what: str, *, name: str) -> Iterator[Happening]:
        """Events while the body runs; then all settles, and the result must be free of complaints.

        `name` is the prefix of the events' ids.
        """
        before = len(self._watch.ends())
        happening = Happening(name)
        self._load.start(name, seed=7, rate=EVENTS_PER_SECOND, copies=1, invalid_share=0.0)
        try:
            until(lambda: self._delivered(name) > EVENTS_PER_SECOND, READY_SECONDS, "deliveries", every=0.3)
            yield happening
        finally:
            self._load.stop()
        self._wait_until_settled(name)
        verdict = happening.judge(read(self._folder, DATABASE_URL_ON_NODE), self._watch.ends()[before:])
        row = Row(what, self._load.events, self._load.owed, len(verdict.lost), happening.repeated)
        self._rows.append(row)
        assert verdict.complaints() == []

    def _wait_until_settled(self, name: str) -> None:
        """Until nothing is to come, or for so long that the checker says what never settles."""
        with suppress(AssertionError):
            until(lambda: self._is_settled(name), SETTLE_SECONDS, every=0.3)
        until(self.is_quiet, READY_SECONDS, "no pod is about to end", every=0.5)

    def wait_until_ready(self) -> None:
        """Until every stage has pods, and each of these is ready."""
        until(self._are_ready, READY_SECONDS, "all pods are ready", every=0.5)

    def is_quiet(self) -> bool:
        """Whether no pod is about to end."""
        return not any("deletionTimestamp" in pod["metadata"] for pod in self.release.pods())

    def _are_ready(self) -> bool:
        pods = self.release.pods()
        return set(map(stage_of, pods)) == set(self.release.stages) and all(map(is_ready, pods))

    @property
    def endpoints(self) -> tuple[str, int]:
        """Address and port of the customers' endpoints."""
        return NODE_ADDRESS, self._port

    def close(self) -> None:
        self._load.close()
        self._watch.close()
        self._receiver.communicate()

    def _account(self) -> str:
        created = self.release.run("accounts", "create", "Acme", "--email", "ops@acme.example", "--json")
        return str(created["id"])

    def _webhook(self, account: str, path: str, behaviour: str) -> None:
        url = f"http://{NODE_ADDRESS}:{self._port}/{path}?{behaviour}"
        created = self.release.run("webhooks", "create", "--account", account, "--url", url, "--json")
        assert created["propagated"]
        with (self._folder / "paths").open("a") as paths:
            paths.write(f"/{path} {created['id']}\n")
        self._load.wants(account, created["id"])

    def _delivered(self, name: str) -> int:
        query = "SELECT count(*) FROM deliveries WHERE state = 'delivered' AND event_id LIKE %s"
        with connected() as connection:
            row = connection.execute(query, [f"{name}:%"]).fetchone()
        return int(row[0]) if row else 0

    def _is_settled(self, name: str) -> bool:
        try:
            with connected() as connection:
                return is_settled(connection, name, self._load.owed)
        except psycopg.OperationalError:
            return False


def connected() -> "psycopg.Connection[Any]":
    return psycopg.connect(DATABASE_URL_ON_NODE, connect_timeout=5)


def is_ready(pod: Resource) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
