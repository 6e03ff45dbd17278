"""The end of the topic is known soon after its leader died."""

import asyncio
import ctypes

import pytest

from contract.clusters import SECONDS
from fakes import FakeTelemetry
from streams.adapters.kafka.compacted.end_offset import EndOffset
from streams.adapters.kafka.connection.config import subscriptions_config
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.outage import Outages
from streams.topics import SUBSCRIPTIONS

pytestmark = pytest.mark.slow

TOPIC = SUBSCRIPTIONS.encode()


class TwoBrokers(EmbeddedBroker):
    """Two brokers, of which the first is the leader."""

    brokers = 2

    def __init__(self) -> None:
        super().__init__()
        pointer, number = ctypes.c_void_p, ctypes.c_int32
        self._library.rd_kafka_mock_partition_set_leader.argtypes = [pointer, ctypes.c_char_p, number, number]
        self._library.rd_kafka_mock_broker_set_down.argtypes = [pointer, number]
        self.create(SUBSCRIPTIONS, 1)
        self._lead(1)

    def lose_the_leader(self) -> None:
        self._lead(2)
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def _lead(self, broker: int) -> None:
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, TOPIC, 0, broker) == 0


@pytest.mark.parametrize("asks", [1, 20])
async def test_the_end_offset_is_asked_of_a_new_leader(asks: int) -> None:
    with TwoBrokers() as brokers:
        end = EndOffset(
            subscriptions_config({"bootstrap.servers": brokers.bootstrap}), SUBSCRIPTIONS, Outages(FakeTelemetry())
        )
        assert [await end.find_end(0) for _ in range(asks)] == [0] * asks
        brokers.lose_the_leader()
        assert await asyncio.wait_for(end.find_end(0), SECONDS) == 0
