"""The lag of a stage is what its group has not committed, by topic."""

from contract.clusters import KafkaCluster
from streams.adapters.kafka.admin.group_lags import KafkaGroupLags
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.features.platform.service import stage_lags
from streams.ports.kafka import Outgoing
from streams.topics import DELIVERIES, SESSION_EVENTS


async def test_records_that_no_stage_committed_are_counted(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, b"k", b"v") for _ in range(3)])

    def admin() -> TopicsAdmin:
        return TopicsAdmin(kafka_cluster.properties, kafka_cluster.prefix)

    lags = KafkaGroupLags(admin, {"fan-out": (SESSION_EVENTS,), "deliver": (DELIVERIES, "no such topic")})
    offsets = await lags.offsets()
    assert sum(found.end - found.committed for found in offsets["fan-out"].values()) == 3
    assert {partition.topic for partition in offsets["deliver"]} <= {DELIVERIES}
    fan_out, deliver = stage_lags(offsets)
    assert (fan_out.stage, fan_out.records) == ("fan-out", 3)
    assert deliver.topics.get(DELIVERIES, 0) == 0
