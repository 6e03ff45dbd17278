"""Topics get more partitions under load: no event is lost, and every record is read."""

import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import STAGES, System, owned, until
from real.kafka import partition_of
from streams.adapters.kafka.admin.consumer_lag import consumer_lag

pytestmark = pytest.mark.e2e

BEFORE, AFTER = 4, 6
NEW = range(BEFORE, AFTER)
FAMILY = [
    "deliveries",
    "deliveries.bulk",
    "deliveries.test",
    "deliveries.retry.1s",
    "deliveries.retry.2s",
    "deliveries.retry.3s",
    "deliveries.held",
    "deliveries.dead-letter",
    "delivery-attempts",
]
# First attempts, the bulk, test events and three tiers.
READ_BY_DELIVER = 6


@pytest.fixture
def system(system: System) -> System:
    """A system whose clients detect new partitions within a second."""
    system.env["KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS"] = "1000"
    return system


class EventLoad:
    """Publishes events in a thread until `end`."""

    def __init__(self, system: System, account_id: str) -> None:
        self._system = system
        self._account_id = account_id
        self._numbers = count()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> set[str]:
        """Stop, and return the acknowledged events."""
        self._ended.set()
        self._thread.join()
        return self._acknowledged

    def _run(self) -> None:
        # A producer knows the partitions of its start: use a new one every hundred events.
        self._acknowledged: set[str] = set()
        while not self._ended.is_set():
            platform = platform_of(self._system)
            for _ in range(100):
                event_id = f"evt_{next(self._numbers)}"
                platform.publish(event_id, launched(event_id, self._account_id), key=event_id)
                self._ended.wait(0.02)
            platform.flush()
            self._acknowledged |= set(platform.acknowledged)


def platform_of(system: System) -> Platform:
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    return Platform(system.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")


def fail_some(request: Received) -> int:
    """Fail some first attempts, but never enough in a row for a pause."""
    return 500 if request.number % 7 == 3 and header(request, "webhook-attempt") == "1" else 200


def register_webhooks(system: System, account_id: str, receiver: Receiver) -> Iterator[str]:
    """Register webhooks until one belongs to a new partition; their paths."""
    for number in count():
        path = f"/customer-{number}"
        receiver.responses[path] = fail_some
        webhook_id = system.webhook(account_id, receiver.url(path))["id"]
        yield path
        if number > 1 and partition_of(webhook_id.encode(), AFTER) in NEW:
            return


def is_used(system: System, topic: str) -> bool:
    """Whether the new partitions of a topic have records."""
    consumer = Consumer({"bootstrap.servers": system.env["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "none"})
    name = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"] + topic
    ends = [consumer.get_watermark_offsets(TopicPartition(name, number), 20) for number in NEW]
    consumer.close()
    return any(end for _, end in ends)


def lag(system: System, group: str, topics: list[str]) -> int:
    """Number of records that a stage has not committed."""
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    servers: dict[str, Any] = {"bootstrap.servers": system.env["KAFKA_BOOTSTRAP_SERVERS"]}
    partitions = {prefix + topic: AFTER for topic in topics}
    return sum(consumer_lag(AdminClient(servers), servers, prefix + group, partitions, 20).values())


def test_partitions_grow_under_load(system: System, receiver: Receiver) -> None:
    system.start()
    mine = system.account()
    paths = list(register_webhooks(system, mine, receiver))
    load = EventLoad(system, mine)
    until(lambda: any(row["tier"] == "1s" for row in system.deliveries()), message="some retries waiting")

    system.env["SCORM_WEBHOOKS_EVENT_PARTITIONS"] = str(AFTER)
    system.env["SCORM_WEBHOOKS_DELIVERY_PARTITIONS"] = str(AFTER)
    system.env["SCORM_WEBHOOKS_RETRY_SCHEDULE"] = "1s,2s"
    grown = system.run("topics", "apply").splitlines()
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    grows = {line.split(": ")[1].removeprefix(prefix) for line in grown if line.startswith("grow: ")}
    assert grows == {"session-events", *FAMILY}, "the retired tier grows too"

    until(lambda: owned(system) == AFTER * READ_BY_DELIVER, message="the new partitions at deliver")
    for topic in ("deliveries", "delivery-attempts"):
        until(partial(is_used, system, topic), message=f"new partitions of {topic} in use")
    key = next(key for key in map(str, count()) if partition_of(key.encode(), AFTER) in NEW)
    platform = platform_of(system)
    platform.publish("evt_new", launched("evt_new", mine), key=key)
    platform.flush()
    until(partial(receiver.has_some, paths[0], "evt_new"), message="an event on a new partition")

    for stage in STAGES:
        assert system.stop(stage) == 0, system.log(stage)[-2000:]
        system.start([stage])
    wanted = load.end() | {"evt_new"}

    for path in paths:
        receiver.wait_for(path, wanted)
    until(lambda: system.states() == {"delivered": len(wanted) * len(paths)}, message="every delivery recorded")
    tiers = [topic for topic in FAMILY if ".retry." in topic]
    until(lambda: lag(system, "fan-out", ["session-events"]) == 0, message="fan-out without lag")
    until(
        lambda: lag(system, "deliver", ["deliveries", "deliveries.bulk", "deliveries.test", *tiers]) == 0,
        message="deliver without lag",
    )
    until(lambda: lag(system, "record", [t for t in FAMILY if t not in tiers]) == 0, message="record without lag")
