"""Retry tiers through a restart, a rebalance and a kill: nothing leaves before its time, nor a second after it."""

import io
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from conftest import Broker
from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import System, owned, ownership, until
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

TIERS = {"3s": 3.0, "5s": 5.0}
PARTITIONS = 4
# What `deliver` reads: first attempts, test events and every tier.
OWNED = PARTITIONS * (2 + len(TIERS))
WEBHOOKS = [f"/customer-{number}" for number in range(8)]
LATE_SECONDS = 1.0
SCHEMA = fastavro.parse_schema(json.loads((Path(__file__).parents[2] / "schemas" / "delivery.avsc").read_text()))
SINGLE_OBJECT_HEADER_BYTES = 10

# An attempt that waited in a tier: webhook's path, event, number.
Try = tuple[str, str, int]


@pytest.fixture
def system(kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """The usual one, with waits that are longer than a process takes to start."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
        "SCORM_WEBHOOKS_RETRY_SCHEDULE": ",".join(TIERS),
        "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": str(PARTITIONS),
    }
    system = System(tmp_path, env)
    system.prepare()
    yield system
    system.close()


@pytest.fixture
def second(system: System, tmp_path: Path) -> Iterator[System]:
    """Another machine of the same deployment."""
    folder = tmp_path / "second"
    folder.mkdir()
    second = System(folder, system.env)
    yield second
    second.close()


class Story:
    """Customers that fail at first, the events they get, and when `deliver` owned all of its partitions."""

    def __init__(self, system: System, platform: Platform, receiver: Receiver) -> None:
        self._platform = platform
        self._receiver = receiver
        self._fails: dict[str, int] = {}
        self._account = str(system.run("accounts", "create", "Acme", "--json")["id"])
        self.paths: dict[str, str] = {}
        for path in WEBHOOKS:
            receiver.responses[path] = self._answer
            url = receiver.url(path)
            made = system.run("webhooks", "create", "--account", self._account, "--url", url, "--json")
            self.paths[made["id"]] = path

    def publish(self, event_id: str, fails: int) -> None:
        """An event for every customer, whose first `fails` attempts fail."""
        self._fails[event_id] = fails
        self._platform.publish(event_id, launched(event_id, self._account), key=event_id)
        self._platform.flush()

    def wait_for(self, event_id: str, attempt: int) -> None:
        """Until that attempt was made at every customer."""

        def made() -> bool:
            tries = {try_of(request) for path in WEBHOOKS for request in self._receiver.at(path)}
            return tries >= {(path, event_id, attempt) for path in WEBHOOKS}

        until(made, 60, f"attempt {attempt} at {event_id}")

    def fall_due(self) -> None:
        """Until what waits in the first tier is due, whoever is there to see it."""
        due = max(self._receiver.at(path)[-1].at for path in WEBHOOKS) + min(TIERS.values())
        until(lambda: time.monotonic() > due)

    def end(self) -> None:
        """Until everything that was published is delivered."""
        for event_id, fails in self._fails.items():
            self.wait_for(event_id, fails + 1)

    def _answer(self, request: Received) -> int:
        _, event_id, attempt = try_of(request)
        return 500 if attempt <= self._fails[event_id] else 200


def test_retries_are_on_time_through_restarts_and_kills(
    system: System,
    second: System,
    platform: Platform,
    receiver: Receiver,
    kafka: Broker,
    topic_prefix: str,
) -> None:
    system.start(["publish", "fan-out", "record"])
    first = partial(system.start, ["deliver"], SCORM_WEBHOOKS_INSTANCE_ID="deliver-0")
    first()
    story = Story(system, platform, receiver)
    until(lambda: owned(system) == OWNED, message="every partition owned")

    story.publish("rest-1", fails=2)
    story.end()

    story.publish("sigterm-1", fails=2)
    story.wait_for("sigterm-1", 1)
    assert system.stop("deliver") == 0, system.log("deliver")[-2000:]
    story.publish("sigterm-2", fails=1)
    story.fall_due()
    first()
    story.publish("sigterm-3", fails=1)
    story.end()

    story.publish("join-1", fails=2)
    story.wait_for("join-1", 1)
    second.start(["deliver"])
    story.publish("join-2", fails=1)
    until(lambda: owned(second) > 0, message="some partitions at the newcomer")
    story.publish("join-3", fails=1)
    story.end()

    story.publish("leave-1", fails=2)
    story.wait_for("leave-1", 1)
    assert second.stop("deliver") == 0, second.log("deliver")[-2000:]
    story.publish("leave-2", fails=1)
    until(lambda: owned(system) == OWNED, message="every partition back at the first")
    story.publish("leave-3", fails=1)
    story.end()

    story.publish("kill-1", fails=2)
    story.wait_for("kill-1", 1)
    killed_at = time.time()
    system.kill("deliver")
    story.publish("kill-2", fails=1)
    first()
    story.publish("kill-3", fails=1)
    story.end()

    changes = [*ownership(system), *ownership(second), (killed_at, -OWNED)]
    waits = measured(receiver, appended(kafka.bootstrap, topic_prefix, story.paths), gaps(changes))
    print(*telemetry(waits), sep="\n")
    assert min(wait.late for wait in waits) >= 0
    assert max(wait.overdue for wait in waits) <= LATE_SECONDS
    # A change of members that no due time fell into would have proved nothing.
    crossing = {wait.chapter for wait in waits if wait.crosses_change}
    assert {"sigterm", "kill"} <= crossing


# -- when each attempt was due, and when it came -------------------------------------------------------------


@dataclass(frozen=True)
class Waited:
    """One retry: seconds after its due time, and seconds after it could have been made."""

    chapter: str
    late: float
    overdue: float
    crosses_change: bool


def measured(receiver: Receiver, due: dict[Try, list[float]], gaps: Sequence[tuple[float, float]]) -> list[Waited]:
    """Each retry that came, by the receiver's own clock; the first of twins belongs to the first record of them."""
    since_epoch = time.time() - time.monotonic()
    came: dict[Try, list[float]] = defaultdict(list)
    for path in WEBHOOKS:
        for request in receiver.at(path):
            came[try_of(request)].append(request.at + since_epoch)
    retries = {key: times for key, times in came.items() if key[2] > 1}
    assert retries.keys() == due.keys()
    waits = []
    for key, times in retries.items():
        for at, due_at in zip(times, due[key], strict=False):
            possible_at = max((end for start, end in gaps if start < due_at + LATE_SECONDS and end > due_at), default=0)
            overdue = at - max(due_at, possible_at)
            waits.append(Waited(key[1].split("-")[0], at - due_at, overdue, possible_at > 0))
    return waits


def telemetry(waits: Sequence[Waited]) -> Iterator[str]:
    for chapter in dict.fromkeys(wait.chapter for wait in waits):
        mine = [wait for wait in waits if wait.chapter == chapter]
        crossing = [wait for wait in mine if wait.crosses_change]
        rest = [wait.late for wait in mine if not wait.crosses_change]
        yield (
            f"{chapter}: {len(mine)} retries, the earliest {1000 * min(wait.late for wait in mine):.0f} ms after it "
            f"was due; at rest at most {1000 * max(rest, default=0):.0f} ms; {len(crossing)} across a change, "
            f"at most {1000 * max((wait.overdue for wait in crossing), default=0):.0f} ms after partitions were owned "
            f"({1000 * max((wait.late for wait in crossing), default=0):.0f} ms after they were due)"
        )


def try_of(request: Received) -> Try:
    return request.path, header(request, "webhook-id"), int(header(request, "webhook-attempt"))


def appended(bootstrap: str, prefix: str, paths: dict[str, str]) -> dict[Try, list[float]]:
    """When what waits in the tiers was due, by the broker's time of appending it."""
    due: dict[Try, list[float]] = defaultdict(list)
    for name, seconds in TIERS.items():
        for value, at in everything(bootstrap, f"{prefix}deliveries.retry.{name}"):
            record: Any = fastavro.schemaless_reader(io.BytesIO(value[SINGLE_OBJECT_HEADER_BYTES:]), SCHEMA, None)
            due[paths[record["webhookId"]], record["eventId"], record["attempt"]].append(at + seconds)
    return {key: sorted(times) for key, times in due.items()}


def everything(bootstrap: str, topic: str) -> Iterator[tuple[bytes, float]]:
    """Each record's value and append time."""
    config = {"bootstrap.servers": bootstrap, "group.id": "none", "enable.partition.eof": True}
    consumer = Consumer(config)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    ended = 0
    while ended < PARTITIONS:
        message = consumer.poll(20)
        assert message is not None, f"no end of {topic}"
        if error := message.error():
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended += 1
        else:
            yield message.value() or b"", message.timestamp()[1] / 1000
    consumer.close()


# -- who owned what, by the stages' own words ----------------------------------------------------------------


def gaps(changes: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """From when to when a partition was without an owner."""
    found = []
    total = 0
    for (at, count), (until_at, _) in pairwise(sorted(changes)):
        total += count
        if total < OWNED:
            found.append((at, until_at))
    return joined(found)


def joined(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals that touch, as one."""
    whole: list[tuple[float, float]] = []
    for start, end in intervals:
        if whole and whole[-1][1] == start:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((start, end))
    return whole
