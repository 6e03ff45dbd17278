"""Strimzi's topics are those that the program declares."""

from typing import Any

import pytest

from chart.rendering import at, merged, render
from streams.core.deliveries.schedule import parse_schedule
from streams.topics import declare

STRIMZI = at("topics", {"managedBy": "strimzi", "strimzi": {"cluster": "events"}})


def topics(values: dict[str, Any] | None = None) -> dict[str, Any]:
    """The KafkaTopics by the name of their topic."""
    found = render(merged(STRIMZI, values or {})).of_kind("KafkaTopic")
    return {topic["spec"]["topicName"]: topic for topic in found}


@pytest.mark.parametrize(
    ("schedule", "event_partitions", "delivery_partitions"),
    [("30s,2m,10m,1h,6h", 12, 24), ("5s,1m", 2, 6), ("1s,2d", 100, 192)],
)
def test_strimzis_topics_are_the_programs(schedule: str, event_partitions: int, delivery_partitions: int) -> None:
    settings = {
        "retrySchedule": schedule.split(","),
        "eventPartitions": event_partitions,
        "deliveryPartitions": delivery_partitions,
    }
    declared = declare(parse_schedule(schedule), event_partitions, delivery_partitions)
    found = {
        name: (topic["spec"]["partitions"], {key: str(value) for key, value in topic["spec"]["config"].items()})
        for name, topic in topics({"settings": settings}).items()
    }
    assert found == {topic.name: (topic.partitions, {**topic.config, "min.insync.replicas": "2"}) for topic in declared}


@pytest.mark.parametrize(("copies", "in_sync"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_copies_follow_the_setting(copies: int, in_sync: int) -> None:
    # As `topics apply` makes them.
    for topic in topics(at("settings.replicationFactor", copies)).values():
        assert (topic["spec"]["replicas"], topic["spec"]["config"]["min.insync.replicas"]) == (copies, in_sync)


def test_a_topic_is_never_deleted_with_its_resource() -> None:
    # Records may wait in a tier that leaves the schedule.
    for topic in topics().values():
        assert topic["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_topic_is_where_its_operator_looks() -> None:
    own = {"cluster": "events", "namespace": "kafka", "apiVersion": "kafka.strimzi.io/v1beta2"}
    for topic in topics(at("topics.strimzi", own)).values():
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "events"
        assert topic["metadata"]["namespace"] == "kafka"
        assert topic["apiVersion"] == "kafka.strimzi.io/v1beta2"
    assert {topic["metadata"]["namespace"] for topic in topics().values()} == {"webhooks"}


def test_a_prefix_is_part_of_the_name() -> None:
    found = topics(at("settings.topicPrefix", "Acme_EU."))
    assert all(name.startswith("Acme_EU.") for name in found)
    assert found["Acme_EU.deliveries.test"]["metadata"]["name"] == "acme-eu.deliveries.test"


def test_strimzi_takes_the_place_of_the_job() -> None:
    jobs = [job["metadata"]["name"] for job in render(STRIMZI).of_kind("Job")]
    assert jobs == ["acme-scorm-webhooks-db-upgrade"]
    assert render().of_kind("KafkaTopic") == []
