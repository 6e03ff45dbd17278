"""A record that is acknowledged without an offset may not be on its topic: it is produced again."""

from collections.abc import Callable
from typing import Any

import pytest

import streams.producer
from fakes import FakeTelemetry
from streams.adapters.kafka.producing import record_producer
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.producer import EventProducer
from streams.topics import ATTEMPTS

EVENT = {
    "id": "evt_1",
    "type": "session.launched",
    "accountId": "acc_1",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"},
}


class Acknowledged:
    """A message as a delivery report has it."""

    def __init__(self, topic: str, offset: int | None) -> None:
        self._topic, self._offset = topic, offset

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 3

    def offset(self) -> int | None:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_770_000_000_000


class Client:
    """librdkafka's producer, whose broker calls the first try of each record a duplicate."""

    def __init__(self) -> None:
        self.tries: list[bytes] = []
        self._waiting: list[tuple[str, bytes, Callable[..., None]]] = []

    def produce(
        self, topic: str, value: bytes, key: object = None, *, on_delivery: Callable[..., None], **_: Any
    ) -> None:
        self.tries.append(value)
        self._waiting.append((topic, value, on_delivery))

    def poll(self, timeout: float) -> int:
        waiting, self._waiting = self._waiting, []
        for topic, value, on_delivery in waiting:
            on_delivery(None, Acknowledged(topic, None if self.tries.count(value) == 1 else 41))
        return len(waiting)

    def flush(self, timeout: float) -> int:
        while self._waiting:
            self.poll(0)
        return 0

    def __len__(self) -> int:
        return len(self._waiting)


async def test_a_stage_produces_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(record_producer, "Producer", lambda config: client)
    telemetry = FakeTelemetry()
    producer = KafkaRecordProducer({}, "", telemetry, Outages(telemetry))
    appended = await producer.produce([Outgoing(ATTEMPTS, b"wh", b"one"), Outgoing(ATTEMPTS, b"wh", b"two")])
    await producer.close()
    assert len(appended) == 2
    assert sorted(client.tries) == [b"one", b"one", b"two", b"two"]


def test_an_event_producer_produces_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(streams.producer, "Producer", lambda config: client)
    with EventProducer("127.0.0.1:1") as producer:
        ack = producer.publish(EVENT).result(timeout=10)
    assert (ack.event_id, ack.offset) == ("evt_1", 41)
    assert len(client.tries) == 2
