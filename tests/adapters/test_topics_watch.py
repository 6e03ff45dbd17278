"""A consumer follows topics that are created and deleted."""

from collections.abc import Mapping

from streams.adapters.kafka.consuming.topics_watch import CHECKS_UNTIL_DELETED, TopicsWatch
from streams.core.errors import Unavailable


class FakeCluster:
    """Returns its topics, or is away."""

    def __init__(self) -> None:
        self.topics: dict[str, int] | None = {"deliveries": 4, "other": 1}

    def partition_counts(self, seconds: float) -> Mapping[str, int]:
        if self.topics is None:
            raise Unavailable("no broker")
        return self.topics


class FakeConsumer:
    """Records its subscription."""

    subscribed: Mapping[str, int] | None = None

    def subscribe(self, partitions: Mapping[str, int]) -> None:
        self.subscribed = partitions


async def test_topics_come_at_once_and_go_after_some_looks() -> None:
    cluster, consumer = FakeCluster(), FakeConsumer()
    watch = TopicsWatch(
        cluster.partition_counts, consumer.subscribe, lambda name: name.startswith("deliveries"), ["deliveries.retry"]
    )
    await watch.check()
    assert (consumer.subscribed, watch.missing_topics) == ({"deliveries": 4}, ["deliveries.retry"])
    cluster.topics = {"deliveries": 6, "deliveries.retry": 4}
    await watch.check()
    assert (consumer.subscribed, watch.missing_topics) == (cluster.topics, [])
    cluster.topics = {"deliveries": 6}
    for _ in range(CHECKS_UNTIL_DELETED - 1):
        await watch.check()
        assert consumer.subscribed == {"deliveries": 6, "deliveries.retry": 4}
    await watch.check()
    assert (consumer.subscribed, watch.missing_topics) == ({"deliveries": 6}, ["deliveries.retry"])


async def test_without_an_answer_everything_stays() -> None:
    cluster, consumer = FakeCluster(), FakeConsumer()
    watch = TopicsWatch(cluster.partition_counts, consumer.subscribe, lambda _: True, [])
    cluster.topics = None
    await watch.check()
    assert consumer.subscribed is None
    cluster.topics = {"deliveries": 4}
    await watch.check()
    cluster.topics = None
    for _ in range(10):
        await watch.check()
    assert consumer.subscribed == {"deliveries": 4}
