"""A consumer thread that cannot go on ends, with a reason."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.consuming import consumer_thread
from streams.adapters.kafka.consuming.consumer_thread import ConsumerFailed, ConsumerThread, rewind
from streams.adapters.kafka.consuming.group_protocol import CLASSIC, GroupProtocol
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer


class Owner:
    """Notes how the thread ended."""

    def __init__(self) -> None:
        self.outcomes: list[Exception | None] = []

    def tell_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        callback(*arguments)

    def on_finished(self, outcome: Exception | None) -> None:
        self.outcomes.append(outcome)


def test_a_broker_that_refuses_both_protocols_ends_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: ConsumerThread) -> None:
        raise consumer_thread._NoSuchProtocol("the broker lacks it")

    monkeypatch.setattr(ConsumerThread, "_consume", refuse)
    owner = Owner()
    thread = ConsumerThread({}, GroupProtocol(CLASSIC), ["topic"], "", cast(KafkaRecordConsumer, owner))
    thread.run()
    [outcome] = owner.outcomes
    assert isinstance(outcome, ConsumerFailed)
    assert "the broker lacks it" in str(outcome)


class FailingSeek:
    """A consumer that cannot seek."""

    def __init__(self, *assigned: TopicPartition) -> None:
        self.assigned = assigned

    def seek(self, target: TopicPartition) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE))

    def assignment(self) -> list[TopicPartition]:
        return list(self.assigned)


def test_a_rewind_that_fails_ends_the_consumer() -> None:
    target = TopicPartition("deliveries", 3, 17)
    with pytest.raises(ConsumerFailed, match="deliveries 3 to offset 17"):
        rewind(cast(Any, FailingSeek(TopicPartition("deliveries", 3))), target)


def test_a_partition_that_was_revoked_is_not_rewound() -> None:
    rewind(cast(Any, FailingSeek(TopicPartition("deliveries", 4))), TopicPartition("deliveries", 3, 17))


class ReassignedAtClose:
    """A consumer whose client assigns a partition while it closes, when no commit can be read any more."""

    def __init__(self, _: object) -> None:
        self.committed_calls = 0
        self.is_closed = False

    def subscribe(self, topics: list[str], on_assign: Callable[..., None], **callbacks: Callable[..., None]) -> None:
        self.on_assign = on_assign

    def poll(self, seconds: float) -> None:
        raise RuntimeError("a bug")

    def close(self) -> None:
        self.on_assign(self, [TopicPartition("topic", 0)])
        self.is_closed = True

    def committed(self, partitions: list[TopicPartition], seconds: float) -> list[TopicPartition]:
        self.committed_calls += 1
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_an_assignment_at_the_end_reads_no_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    consumers: list[ReassignedAtClose] = []

    def new_consumer(config: object) -> ReassignedAtClose:
        consumers.append(ReassignedAtClose(config))
        return consumers[-1]

    monkeypatch.setattr(consumer_thread, "Consumer", new_consumer)
    monkeypatch.setattr(consumer_thread, "TAKE_OVER_TIMEOUT_SECONDS", 0.0)
    owner = Owner()
    thread = ConsumerThread({}, GroupProtocol(CLASSIC), ["topic"], "", cast(KafkaRecordConsumer, owner))
    thread.run()
    [consumer] = consumers
    assert consumer.committed_calls == 0
    assert consumer.is_closed
    assert [str(outcome) for outcome in owner.outcomes] == ["a bug"]
