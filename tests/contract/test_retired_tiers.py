"""A tier that left the schedule stays while records wait in it."""

from collections.abc import Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from conftest import Broker
from streams.adapters.kafka.admin.topics_admin import TopicAction, TopicChange, TopicsAdmin
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Misconfigured
from streams.topics import Topic, declare

RETIRED = "deliveries.retry.2s"
PARTITIONS = 2


def topics(schedule: str, partitions: int = PARTITIONS) -> list[Topic]:
    return declare(parse_schedule(schedule), 2, partitions)


def changes(plan: Sequence[TopicChange]) -> dict[str, tuple[TopicAction, str]]:
    """The changes of a plan, without those that keep a topic."""
    return {c.topic.name: (c.action, c.message) for c in plan if c.action is not TopicAction.KEEP}


class DeploymentTopics:
    """A cluster with the topics of the schedule 1s,2s. Then 2s leaves the schedule."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._servers = {"bootstrap.servers": bootstrap}
        self._prefix = prefix
        self.admin = TopicsAdmin(self._servers, prefix)
        self.admin.apply(self.admin.plan(topics("1s,2s")))

    def wait(self, counts: Sequence[int]) -> None:
        """Produce this many records to each partition of the tier."""
        producer = Producer(self._servers)
        for number, count in enumerate(counts):
            for _ in range(count):
                producer.produce(self._prefix + RETIRED, b"waits", partition=number)
        assert producer.flush(20) == 0

    def commit(self, offsets: Sequence[int], metadata: str = "", group: str = "deliver") -> None:
        """Commit as a stage of the group does."""
        consumer = Consumer({**self._servers, "group.id": self._prefix + group})
        partitions = [
            TopicPartition(self._prefix + RETIRED, number, offset, metadata) for number, offset in enumerate(offsets)
        ]
        consumer.commit(offsets=partitions, asynchronous=False)
        consumer.close()

    def forget(self, offsets: Sequence[int]) -> None:
        """Delete records up to an offset of each partition, as retention does."""
        ends = [TopicPartition(self._prefix + RETIRED, number, offset) for number, offset in enumerate(offsets)]
        client = AdminClient({**self._servers})
        for forgotten in client.delete_records(ends).values():
            forgotten.result(20)

    def plan(self, partitions: int = PARTITIONS) -> dict[str, tuple[TopicAction, str]]:
        return changes(self.admin.plan(topics("1s", partitions)))

    def remove(self) -> None:
        self.admin.apply(self.admin.plan(topics("1s"), remove_retired=True))


@pytest.fixture
def deployment(kafka: Broker, topic_prefix: str) -> DeploymentTopics:
    return DeploymentTopics(kafka.bootstrap, topic_prefix)


def test_a_plan_tells_how_many_wait_in_a_retired_tier(deployment: DeploymentTopics) -> None:
    kept = "no longer in the schedule, but still read; "
    assert deployment.plan() == {RETIRED: (TopicAction.RETIRED, kept + "no records still wait in it")}
    deployment.wait([3, 4])
    assert deployment.plan() == {RETIRED: (TopicAction.RETIRED, kept + "7 records still wait in it")}
    deployment.commit([3, 1])
    assert deployment.plan() == {RETIRED: (TopicAction.RETIRED, kept + "3 records still wait in it")}
    deployment.commit([3, 3])
    assert deployment.plan() == {RETIRED: (TopicAction.RETIRED, kept + "1 record still waits in it")}


def test_an_empty_retired_tier_is_kept_by_default(deployment: DeploymentTopics) -> None:
    deployment.admin.apply(deployment.admin.plan(topics("1s")))
    assert RETIRED in deployment.admin.partition_counts()


def test_an_empty_retired_tier_is_removed_on_request(deployment: DeploymentTopics) -> None:
    deployment.wait([3, 4])
    deployment.commit([3, 4])
    deployment.remove()
    assert deployment.admin.partition_counts() == {topic.name: topic.partitions for topic in topics("1s")}
    assert deployment.plan() == {}


def test_a_retired_tier_without_any_commit_is_removed(deployment: DeploymentTopics) -> None:
    deployment.remove()
    assert RETIRED not in deployment.admin.partition_counts()


@pytest.mark.parametrize(
    ("offsets", "metadata", "group", "left"),
    [
        pytest.param([3, 3], "", "deliver", "1 record still waits", id="one partition is not read to its end"),
        pytest.param([3, 3], "1:AQ==", "deliver", "1 record still waits", id="complete beyond what is committed"),
        pytest.param([3, 4], "", "record", "7 records still wait", id="read by another group"),
    ],
)
def test_a_retired_tier_with_records_is_not_removed(
    deployment: DeploymentTopics, offsets: Sequence[int], metadata: str, group: str, left: str
) -> None:
    deployment.wait([3, 4])
    deployment.commit(offsets, metadata, group)
    before = deployment.admin.partition_counts()
    with pytest.raises(Misconfigured, match=f"{RETIRED}: {left} in it"):
        deployment.admin.apply(deployment.admin.plan(topics("1s,9s"), remove_retired=True))
    assert deployment.admin.partition_counts() == before


def test_a_tier_of_the_schedule_is_never_removed(deployment: DeploymentTopics) -> None:
    deployment.admin.apply(deployment.admin.plan(topics("1s,2s"), remove_retired=True))
    assert RETIRED in deployment.admin.partition_counts()


def test_a_retired_tier_that_stays_grows_with_its_family(deployment: DeploymentTopics) -> None:
    deployment.wait([3, 4])
    action, message = deployment.plan(partitions=3)[RETIRED]
    assert action is TopicAction.GROW
    assert message == "retired tier, grows with its family to 3 partitions; 7 records still wait in it"
    deployment.admin.apply(deployment.admin.plan(topics("1s", 3)))
    assert deployment.admin.partition_counts()[RETIRED] == 3
    assert "7 records" in deployment.plan(partitions=3)[RETIRED][1]


def test_records_deleted_by_retention_do_not_count(deployment: DeploymentTopics) -> None:
    deployment.wait([3, 4])
    deployment.forget([3, 4])
    deployment.remove()
    assert RETIRED not in deployment.admin.partition_counts()
