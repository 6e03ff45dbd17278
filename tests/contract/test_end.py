"""Where the topic of webhooks ends is answered again, soon after a broker died, by whoever leads it then."""

import asyncio
import ctypes
from collections.abc import Iterator

import pytest

from contract.clusters import SECONDS
from fakes import FakeReport
from streams.adapters.kafka.config import view_config
from streams.adapters.kafka.embedded import _library
from streams.adapters.kafka.end import End
from streams.topics import SUBSCRIPTIONS

TOPIC = SUBSCRIPTIONS.encode()


class Brokers:
    """Two of librdkafka's own; the first leads."""

    def __init__(self) -> None:
        self._lib = _library()
        pointer, number = ctypes.c_void_p, ctypes.c_int32
        self._lib.rd_kafka_mock_partition_set_leader.argtypes = [pointer, ctypes.c_char_p, number, number]
        self._lib.rd_kafka_mock_broker_set_down.argtypes = [pointer, number]
        error = ctypes.create_string_buffer(512)
        conf = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set(conf, b"log_level", b"0", error, 512)
        self._client = self._lib.rd_kafka_new(0, conf, error, 512)
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, 2)
        self._lib.rd_kafka_mock_topic_create(self._cluster, TOPIC, 1, 2)
        self._lead(1)

    @property
    def bootstrap(self) -> str:
        servers: bytes = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def lose_the_leader(self) -> None:
        self._lead(2)
        assert self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)

    def _lead(self, broker: int) -> None:
        assert self._lib.rd_kafka_mock_partition_set_leader(self._cluster, TOPIC, 0, broker) == 0


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    brokers = Brokers()
    yield brokers
    brokers.close()


@pytest.mark.parametrize("asks", [1, 20])
async def test_the_next_leader_is_asked_when_the_broker_that_led_is_gone(brokers: Brokers, asks: int) -> None:
    end = End(view_config({"bootstrap.servers": brokers.bootstrap}), "", FakeReport())
    assert [await end.beyond(0) for _ in range(asks)] == [0] * asks
    brokers.lose_the_leader()
    assert await asyncio.wait_for(end.beyond(0), SECONDS) == 0
