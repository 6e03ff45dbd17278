"""A release under load: events by Kafka, endpoints on the node, and the checker of the chaos tests."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg

from chaos import receiver
from chaos.checker import Evidence, Verdict, check, read
from chaos.load import Load
from chaos.settled import is_settled
from e2e.system import until
from kube.kubectl import Resource
from kube.namespaces import NODE_ADDRESS
from kube.pods import End, PodWatch
from kube.release import STAGES, Release, stage_of
from kube.stores import BOOTSTRAP, DATABASE_URL_ON_NODE

EVENTS_PER_SECOND = 20.0
DELAY_MS = 20
READY_SECONDS = 120.0
SETTLE_SECONDS = 120.0
# The longest time between two commits, and a request before the commit.
UNCOMMITTED_SECONDS = 1.1
# A process ends 25 seconds after SIGTERM at the latest; `api` sleeps five seconds before.
END_SECONDS = 30.0


@dataclass(frozen=True)
class Row:
    """What happened, and what it cost."""

    what: str
    events: int
    deliveries: int
    lost: int
    repeated: int
    seconds: float


class LoadedRelease:
    """Two accounts with three webhooks, which get events while something happens."""

    def __init__(self, release: Release, folder: Path, rows: list[Row]) -> None:
        self.release, self.rows = release, rows
        self.folder = folder / "evidence"
        self.folder.mkdir()
        self.watch = PodWatch(release.kubectl, folder)
        self._load = Load(self.folder, BOOTSTRAP, "session-events")
        self._receiver = subprocess.Popen(
            [sys.executable, receiver.__file__, self.folder / "receipts", NODE_ADDRESS],
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
    def under_load(self, what: str, *, name: str) -> Iterator["Happening"]:
        """Events while the body runs; then all settles, and the result must be free of complaints.

        `name` is the prefix of the events' ids.
        """
        before = len(self.watch.ends())
        started = time.monotonic()
        self._load.start(name, seed=7, rate=EVENTS_PER_SECOND, copies=1, invalid_share=0.0)
        happening = Happening(self)
        try:
            until(lambda: self._delivered(name) > EVENTS_PER_SECOND, READY_SECONDS, "deliveries", every=0.3)
            yield happening
        finally:
            self._load.stop()
        seconds = time.monotonic() - started
        # The checker names what never settles.
        with suppress(AssertionError):
            until(lambda: self._is_settled(name), SETTLE_SECONDS, every=0.3)
        until(self._nothing_ends, READY_SECONDS, "no pod is about to end", every=0.5)
        evidence = read(self.folder, DATABASE_URL_ON_NODE)
        verdict = check(evidence)
        happening.repeated = repeated(verdict, name)
        happening.allowed = happening.doubtful(evidence)
        happening.ends = self.watch.ends()[before:]
        lost = len(verdict.lost)
        self.rows.append(Row(what, self._load.events, self._load.owed, lost, happening.repeated, seconds))
        assert verdict.complaints() == []

    def wait_until_ready(self, *stages: str) -> None:
        """Until these stages, or all, have pods, and each of these is ready."""
        until(partial(self._are_ready, stages or STAGES), READY_SECONDS, "all pods are ready", every=0.5)

    def _nothing_ends(self) -> bool:
        return not any("deletionTimestamp" in pod["metadata"] for pod in self.release.pods())

    def _are_ready(self, stages: Sequence[str]) -> bool:
        pods = self.release.pods()
        of_stages = [[pod for pod in pods if stage_of(pod) == stage] for stage in stages]
        return all(of_stages) and all(map(is_ready, chain(*of_stages)))

    def close(self) -> None:
        self._load.close()
        self.watch.close()
        self._receiver.communicate()

    def _account(self) -> str:
        created = self.release.run("accounts", "create", "Acme", "--email", "ops@acme.example", "--json")
        return str(created["id"])

    def _webhook(self, account: str, path: str, behaviour: str) -> None:
        url = f"http://{NODE_ADDRESS}:{self._port}/{path}?{behaviour}"
        created = self.release.run("webhooks", "create", "--account", account, "--url", url, "--json")
        assert created["propagated"]
        with (self.folder / "paths").open("a") as paths:
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


class Happening:
    """What the body of a `with` does to the release. After it: what it cost."""

    def __init__(self, loaded: LoadedRelease) -> None:
        self._loaded = loaded
        self._doubts: list[tuple[float, float]] = []
        self.repeated = 0
        self.allowed = 0
        self.ends: list[End] = []

    @contextmanager
    def doubt(self) -> Iterator[None]:
        """While requests may be sent that are not committed any more: they may be sent twice."""
        since = time.time() - UNCOMMITTED_SECONDS
        yield
        self._doubts.append((since, time.time()))

    def doubtful(self, evidence: Evidence) -> int:
        """The number of requests that may have been sent twice."""
        return sum(
            receipt.accepted and any(since <= receipt.at <= end for since, end in self._doubts)
            for receipt in evidence.receipts
        )

    def bad_ends(self) -> list[End]:
        """Processes that ended with an error, or too late, after they were asked to end."""
        return [end for end in self.ends if end.code != 0 or end.seconds > END_SECONDS]


def connected() -> "psycopg.Connection[Any]":
    return psycopg.connect(DATABASE_URL_ON_NODE, connect_timeout=5)


def is_ready(pod: Resource) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def repeated(verdict: Verdict, name: str) -> int:
    return sum(count for (event, _), count in verdict.repeated.items() if event.startswith(f"{name}:"))


def table(rows: list[Row]) -> str:
    """As docs/kubernetes.md has it."""
    lines = ["| what happened | events | deliveries | lost | sent twice |", "|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.events} | {row.deliveries} | {row.lost} | {row.repeated} |" for row in rows]
    return "\n".join(lines)
