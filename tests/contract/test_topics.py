"""`topics plan` and `topics apply` on Apache Kafka: they create and extend, and refuse what would lose data."""

import pytest

from conftest import Broker
from streams.adapters.kafka.topics_admin import Action, Change, TopicsAdmin
from streams.core.errors import Misconfigured
from streams.core.schedule import parse_schedule
from streams.topics import Topic, declare, delivery_family


def topics(schedule: str, delivery_partitions: int) -> list[Topic]:
    return declare(parse_schedule(schedule), 2, delivery_partitions)


def actions(plan: list[Change]) -> set[Action]:
    return {change.action for change in plan}


@pytest.fixture
def admin(kafka: Broker, topic_prefix: str) -> TopicsAdmin:
    admin = TopicsAdmin({"bootstrap.servers": kafka.bootstrap}, topic_prefix)
    admin.apply(admin.plan(topics("1s,2s", 2)))
    return admin


def test_what_was_applied_is_there_as_declared_and_a_second_plan_keeps_it(admin: TopicsAdmin) -> None:
    assert actions(admin.plan(topics("1s,2s", 2))) == {Action.KEEP}
    assert admin.existing() == {topic.name: topic.partitions for topic in topics("1s,2s", 2)}


def test_more_partitions_grow_the_whole_family_a_retired_tier_too(admin: TopicsAdmin) -> None:
    plan = admin.plan(topics("1s,5s", 3))
    assert {c.topic.name for c in plan if c.action is Action.CREATE} == {"deliveries.retry.5s"}
    admin.apply(plan)
    family = delivery_family(parse_schedule("1s,2s,5s").tiers)
    assert {admin.existing()[name] for name in family} == {3}


def test_a_tier_that_left_the_schedule_is_named_and_kept(admin: TopicsAdmin) -> None:
    [retired] = [change for change in admin.plan(topics("1s", 2)) if change.action is Action.RETIRED]
    assert retired.topic.name == "deliveries.retry.2s"
    assert "still read" in retired.words


def test_fewer_partitions_are_refused_in_words_and_nothing_is_changed(admin: TopicsAdmin) -> None:
    before = admin.existing()
    with pytest.raises(Misconfigured, match="deliveries: has 2 partitions, more than the 1 that the settings say"):
        admin.apply(admin.plan(topics("1s,2s,9s", 1)))
    assert admin.existing() == before
