"""Retries through a restart, a rebalance and a kill: none is early, none is more than a second late."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from conftest import Broker
from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import System, owned, ownership, until
from real.postgres import Postgres
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery

pytestmark = pytest.mark.e2e

TIERS = {"3s": 3.0, "5s": 5.0}
PARTITIONS = 4
# What `deliver` reads: first attempts, the bulk, test events and every tier.
OWNED = PARTITIONS * (3 + len(TIERS))
WEBHOOKS = [f"/customer-{number}" for number in range(8)]
LATE_SECONDS = 1.0
CODEC = AvroCodec()

# An attempt that waited in a tier: webhook's path, event, number.
AttemptKey = tuple[str, str, int]


@pytest.fixture
def system(kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """A system whose waits are longer than the start of a process."""
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
    """A second machine of the same deployment."""
    folder = tmp_path / "second"
    folder.mkdir()
    second = System(folder, system.env)
    yield second
    second.close()


class FailingEndpoints:
    """Endpoints that fail first, and the events published to them."""

    def __init__(self, system: System, platform: Platform, receiver: Receiver) -> None:
        self._platform = platform
        self._receiver = receiver
        self._fails: dict[str, int] = {}
        self._account = str(system.run("accounts", "create", "Acme", "--json")["id"])
        self.paths: dict[str, str] = {}
        for path in WEBHOOKS:
            receiver.responses[path] = self._respond
            url = receiver.url(path)
            made = system.run("webhooks", "create", "--account", self._account, "--url", url, "--json")
            self.paths[made["id"]] = path

    def publish(self, event_id: str, fails: int) -> None:
        """Publish an event to every endpoint; its first `fails` attempts fail."""
        self._fails[event_id] = fails
        self._platform.publish(event_id, launched(event_id, self._account), key=event_id)
        self._platform.flush()

    def wait_for(self, event_id: str, attempt: int) -> None:
        """Wait for that attempt at every endpoint."""

        def made() -> bool:
            tries = {attempt_key(request) for path in WEBHOOKS for request in self._receiver.at(path)}
            return tries >= {(path, event_id, attempt) for path in WEBHOOKS}

        until(made, 60, f"attempt {attempt} at {event_id}")

    def wait_until_due(self) -> None:
        """Wait until the retries of the first tier are due."""
        due = max(self._receiver.at(path)[-1].at for path in WEBHOOKS) + min(TIERS.values())
        until(lambda: time.monotonic() > due)

    def wait_for_all(self) -> None:
        """Wait until all events are delivered."""
        for event_id, fails in self._fails.items():
            self.wait_for(event_id, fails + 1)

    def _respond(self, request: Received) -> int:
        _, event_id, attempt = attempt_key(request)
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
    endpoints = FailingEndpoints(system, platform, receiver)
    until(lambda: owned(system) == OWNED, message="every partition owned")

    endpoints.publish("rest-1", fails=2)
    endpoints.wait_for_all()

    endpoints.publish("sigterm-1", fails=2)
    endpoints.wait_for("sigterm-1", 1)
    assert system.stop("deliver") == 0, system.log("deliver")[-2000:]
    endpoints.publish("sigterm-2", fails=1)
    endpoints.wait_until_due()
    first()
    endpoints.publish("sigterm-3", fails=1)
    endpoints.wait_for_all()

    endpoints.publish("join-1", fails=2)
    endpoints.wait_for("join-1", 1)
    second.start(["deliver"])
    endpoints.publish("join-2", fails=1)
    until(lambda: owned(second) > 0, message="some partitions at the second")
    endpoints.publish("join-3", fails=1)
    endpoints.wait_for_all()

    endpoints.publish("leave-1", fails=2)
    endpoints.wait_for("leave-1", 1)
    assert second.stop("deliver") == 0, second.log("deliver")[-2000:]
    endpoints.publish("leave-2", fails=1)
    until(lambda: owned(system) == OWNED, message="every partition back at the first")
    endpoints.publish("leave-3", fails=1)
    endpoints.wait_for_all()

    endpoints.publish("kill-1", fails=2)
    endpoints.wait_for("kill-1", 1)
    until(lambda: any(key[1] == "kill-1" for key in due_times(kafka.bootstrap, topic_prefix, endpoints.paths)))
    killed_at = time.time()
    system.kill("deliver")
    endpoints.publish("kill-2", fails=1)
    endpoints.wait_until_due()
    first()
    endpoints.publish("kill-3", fails=1)
    endpoints.wait_for_all()

    changes = [*ownership(system), *ownership(second), (killed_at, -OWNED)]
    timings = retry_timings(
        receiver, due_times(kafka.bootstrap, topic_prefix, endpoints.paths), ownership_gaps(changes)
    )
    print(*summary(timings), sep="\n")
    assert min(timing.late for timing in timings) >= 0
    assert max(timing.overdue for timing in timings) <= LATE_SECONDS
    # Some retries must become due during each change, or the test proves nothing.
    crossing = {timing.phase for timing in timings if timing.crosses_change}
    assert {"sigterm", "kill"} <= crossing


# -- due and actual times of retries -----------------------------------------------------------------------


@dataclass(frozen=True)
class RetryTiming:
    """A retry: seconds after its due time, and seconds after it was possible."""

    phase: str
    late: float
    overdue: float
    crosses_change: bool


def retry_timings(
    receiver: Receiver, due: dict[AttemptKey, list[float]], ownership_gaps: Sequence[tuple[float, float]]
) -> list[RetryTiming]:
    """The timing of each retry, by the receiver's clock; duplicates are matched in order."""
    since_epoch = time.time() - time.monotonic()
    arrivals: dict[AttemptKey, list[float]] = defaultdict(list)
    for path in WEBHOOKS:
        for request in receiver.at(path):
            arrivals[attempt_key(request)].append(request.at + since_epoch)
    retries = {key: times for key, times in arrivals.items() if key[2] > 1}
    assert retries.keys() == due.keys()
    timings = []
    for key, times in retries.items():
        for at, due_at in zip(times, due[key], strict=False):
            possible_at = max(
                (end for start, end in ownership_gaps if start < due_at + LATE_SECONDS and end > due_at), default=0
            )
            overdue = at - max(due_at, possible_at)
            timings.append(RetryTiming(key[1].split("-")[0], at - due_at, overdue, possible_at > 0))
    return timings


def summary(timings: Sequence[RetryTiming]) -> Iterator[str]:
    for phase in dict.fromkeys(timing.phase for timing in timings):
        own = [timing for timing in timings if timing.phase == phase]
        crossing = [timing for timing in own if timing.crosses_change]
        rest = [timing.late for timing in own if not timing.crosses_change]
        yield (
            f"{phase}: {len(own)} retries, the earliest {1000 * min(timing.late for timing in own):.0f} ms after it "
            f"was due; at rest at most {1000 * max(rest, default=0):.0f} ms; {len(crossing)} across a change, "
            f"at most {1000 * max((timing.overdue for timing in crossing), default=0):.0f} ms after assignment "
            f"({1000 * max((timing.late for timing in crossing), default=0):.0f} ms after they were due)"
        )


def attempt_key(request: Received) -> AttemptKey:
    return request.path, header(request, "webhook-id"), int(header(request, "webhook-attempt"))


def due_times(bootstrap: str, prefix: str, paths: dict[str, str]) -> dict[AttemptKey, list[float]]:
    """Due times of the retries, from the broker's append times."""
    due: dict[AttemptKey, list[float]] = defaultdict(list)
    for name, seconds in TIERS.items():
        for value, at in read_records(bootstrap, f"{prefix}deliveries.retry.{name}"):
            retry = CODEC.decode(value)
            assert isinstance(retry, Delivery)
            due[paths[retry.webhook_id], retry.event_id, retry.attempt].append(at + seconds)
    return {key: sorted(times) for key, times in due.items()}


def read_records(bootstrap: str, topic: str) -> Iterator[tuple[bytes, float]]:
    """The value and append time of each record."""
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


# -- partitions owned, from the logs ----------------------------------------------------------------------


def ownership_gaps(changes: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Intervals in which some partition had no owner."""
    found = []
    total = 0
    for (at, count), (until_at, _) in pairwise(sorted(changes)):
        total += count
        if total < OWNED:
            found.append((at, until_at))
    return merge(found)


def merge(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join adjacent intervals."""
    whole: list[tuple[float, float]] = []
    for start, end in intervals:
        if whole and whole[-1][1] == start:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((start, end))
    return whole
