"""A record that looks like one of a newer release stops its partition alone, until an operator moves past it."""

from functools import partial

import pytest
from confluent_kafka import Producer

from builders import delivery, webhook
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import System, until
from fakes import NEWER_CODEC
from real.kafka import partition_of

pytestmark = pytest.mark.e2e

PARTITIONS = 4
READERS = ("deliver", "record")
METRIC = "partitions_of_newer_release"


def webhooks_of_two_partitions(system: System, account: str, receiver: Receiver) -> tuple[str, str]:
    """Register webhooks until two are on different partitions; their paths are `/stopped` and `/other`."""
    stopped = str(system.webhook(account, receiver.url("/stopped"))["id"])
    while True:
        other = str(system.webhook(account, receiver.url("/other"))["id"])
        if partition_of(other.encode(), PARTITIONS) != partition_of(stopped.encode(), PARTITIONS):
            return stopped, other
        system.run("webhooks", "delete", other, "--yes")


def counts_one(system: System, stage: str) -> bool:
    return system.metric(stage, METRIC) == 1


def publish(platform: Platform, account: str, event_id: str) -> None:
    platform.publish(event_id, launched(event_id, account), key=event_id)
    platform.flush()


def test_a_partition_waits_and_an_operator_can_move_past_it(
    system: System, platform: Platform, receiver: Receiver
) -> None:
    system.start()
    account = system.account()
    stopped, _ = webhooks_of_two_partitions(system, account, receiver)
    servers, prefix = system.env["KAFKA_BOOTSTRAP_SERVERS"], system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    topic, partition = f"{prefix}deliveries", partition_of(stopped.encode(), PARTITIONS)
    places: list[int] = []
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(
        topic,
        NEWER_CODEC.encode(delivery(webhook_id=stopped)),
        partition=partition,
        on_delivery=lambda error, message: places.append(message.offset() or 0),
    )
    producer.flush(30)
    [offset] = places

    for stage in READERS:
        reason = f"deliveries {partition}: a newer release wrote the record at offset {offset}; upgrade this stage"
        until(lambda stage=stage, reason=reason: reason in system.problem(stage), 60, f"{stage} says why it waits")  # type: ignore[misc]
        until(partial(counts_one, system, stage), 60, f"{stage} counts its partition")
    publish(platform, account, "evt_1")
    until(partial(receiver.has_some, "/other", "evt_1"), 60, "the other partitions go on")
    assert not receiver.has_some("/stopped", "evt_1")
    assert system.metric("deliver", "invalid_records_total") == 0

    for stage in READERS:
        assert system.stop(stage) == 0
        system.run("topics", "skip", stage, "deliveries", str(partition), str(offset), "--yes")
    system.start(READERS)
    until(partial(receiver.has_some, "/stopped", "evt_1"), 60, "the partition goes on")
    until(lambda: system.states() == {"delivered": 2}, 60, "both deliveries are recorded")


@pytest.mark.parametrize("key", ["a webhook", "nobody's"])
def test_a_newer_record_of_a_webhook_is_published_over(running: System, receiver: Receiver, key: str) -> None:
    account = running.account()
    webhook_id = str(running.webhook(account, receiver.url("/crm"))["id"]) if key == "a webhook" else "wh_nobody"
    servers, prefix = running.env["KAFKA_BOOTSTRAP_SERVERS"], running.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    producer = Producer({"bootstrap.servers": servers})
    before = running.metric("deliver", "subscriptions_invalid_total")
    producer.produce(f"{prefix}subscriptions", NEWER_CODEC.encode(webhook(id=webhook_id)), webhook_id.encode())
    producer.flush(30)
    until(lambda: running.metric("deliver", "subscriptions_invalid_total") > before, 60, "it is read")
    for stage in ("deliver", "fan-out"):
        until(lambda stage=stage: running.is_ready(stage), 60, f"{stage} is ready again")  # type: ignore[misc]
    platform = Platform(servers, f"{prefix}session-events")
    publish(platform, account, f"evt_{webhook_id}")
    if key == "a webhook":
        until(partial(receiver.has_some, "/crm", f"evt_{webhook_id}"), 60, "its events are delivered")
