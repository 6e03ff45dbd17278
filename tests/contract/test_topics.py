"""`topics plan` and `topics apply` on Apache Kafka create and extend topics, and lose no data."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from conftest import Broker
from streams.adapters.kafka.admin.topics_admin import TopicAction, TopicChange, TopicsAdmin
from streams.cli.app import app
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Misconfigured
from streams.topics import DELIVERIES, Topic, declare, delivery_family


def topics(schedule: str, delivery_partitions: int) -> list[Topic]:
    return declare(parse_schedule(schedule), 2, delivery_partitions)


def actions(plan: list[TopicChange]) -> set[TopicAction]:
    return {change.action for change in plan}


@pytest.fixture
def empty(kafka: Broker, topic_prefix: str) -> TopicsAdmin:
    return TopicsAdmin({"bootstrap.servers": kafka.bootstrap}, topic_prefix)


@pytest.fixture
def admin(empty: TopicsAdmin) -> TopicsAdmin:
    empty.apply(empty.plan(topics("1s,2s", 2)))
    return empty


def test_a_plan_for_an_empty_cluster_creates_every_topic(empty: TopicsAdmin) -> None:
    plan = empty.plan(topics("1s,2s", 2))
    assert [(change.action, change.topic) for change in plan] == [(TopicAction.CREATE, t) for t in topics("1s,2s", 2)]
    assert empty.partition_counts() == {}


def test_applied_topics_are_as_declared_and_stay(admin: TopicsAdmin) -> None:
    assert actions(admin.plan(topics("1s,2s", 2))) == {TopicAction.KEEP}
    assert admin.partition_counts() == {topic.name: topic.partitions for topic in topics("1s,2s", 2)}


def test_a_config_that_is_not_as_declared_is_named_and_set(admin: TopicsAdmin) -> None:
    shorter = [
        replace(topic, config={**topic.config, "retention.ms": "3600000"}) if topic.name == DELIVERIES else topic
        for topic in topics("1s,2s", 2)
    ]
    [change] = [change for change in admin.plan(shorter) if change.action is not TopicAction.KEEP]
    assert (change.action, change.message) == (TopicAction.CONFIGURE, "retention.ms 604800000 → 3600000")
    admin.apply([change])
    assert actions(admin.plan(shorter)) == {TopicAction.KEEP}


def test_more_partitions_grow_the_whole_family(admin: TopicsAdmin) -> None:
    plan = admin.plan(topics("1s,5s", 3))
    assert {c.topic.name for c in plan if c.action is TopicAction.CREATE} == {"deliveries.retry.5s"}
    admin.apply(plan)
    family = delivery_family(parse_schedule("1s,2s,5s").tiers)
    assert {admin.partition_counts()[name] for name in family} == {3}


def test_topics_are_visible_right_after_apply(empty: TopicsAdmin) -> None:
    for partitions in range(1, 11):
        empty.apply(empty.plan(topics("1s,2s", partitions)))
        assert actions(empty.plan(topics("1s,2s", partitions))) <= {TopicAction.KEEP, TopicAction.RETIRED}


def test_a_tier_that_left_the_schedule_is_named_and_kept(admin: TopicsAdmin) -> None:
    [retired] = [change for change in admin.plan(topics("1s", 2)) if change.action is TopicAction.RETIRED]
    assert retired.topic.name == "deliveries.retry.2s"
    assert "still read" in retired.message


def test_fewer_partitions_are_refused_and_change_nothing(admin: TopicsAdmin) -> None:
    before = admin.partition_counts()
    with pytest.raises(Misconfigured, match="deliveries: has 2 partitions, more than the 1 in the settings"):
        admin.apply(admin.plan(topics("1s,2s,9s", 1)))
    assert admin.partition_counts() == before


def test_a_plan_with_a_refusal_ends_with_2(kafka: Broker, topic_prefix: str, admin: TopicsAdmin) -> None:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
        "SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s",
        "SCORM_WEBHOOKS_EVENT_PARTITIONS": "2",
    }
    codes = {}
    for partitions in ("2", "1"):
        settings = {**env, "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": partitions}
        done = CliRunner().invoke(app, ["topics", "plan"], env=settings)
        codes[partitions] = done.exit_code
    assert codes == {"2": 0, "1": 2}
    assert "refuse" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
