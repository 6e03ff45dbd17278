"""Our partitioner equals that of other Kafka clients."""

from contract.clusters import PARTITIONS, KafkaCluster, RecordCollector, running, until
from streams.ports.kafka import Outgoing, Partition
from streams.topics import ATTEMPTS

# Apache Kafka's own test vectors (`UtilsTest.testMurmur2`).
KNOWN_HASHES = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}


def partition_of(key: bytes) -> Partition:
    return Partition(ATTEMPTS, (KNOWN_HASHES[key] & 0x7FFFFFFF) % PARTITIONS)


async def test_a_key_goes_to_kafkas_standard_partition(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce([Outgoing(ATTEMPTS, key, b"") for key in KNOWN_HASHES])
    handler = RecordCollector()
    async with running(kafka_cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == len(KNOWN_HASHES))
    assert {record.key: record.partition for record in handler.records} == {k: partition_of(k) for k in KNOWN_HASHES}
