"""A consumer thread that cannot go on ends, with a reason."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka import consumer_thread
from streams.adapters.kafka.consumer_thread import ConsumerFailed, ConsumerThread, rewind
from streams.adapters.kafka.group_protocol import CLASSIC, GroupProtocol
from streams.adapters.kafka.record_consumer import KafkaRecordConsumer


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
