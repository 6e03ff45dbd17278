"""A consumer thread that cannot go on ends, with a reason."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from streams.adapters.kafka import consumer_thread
from streams.adapters.kafka.consumer_thread import ConsumerFailed, ConsumerThread
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
