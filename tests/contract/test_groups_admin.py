"""`GroupsAdmin` moves a group on Apache Kafka while none of its members runs: back to a time, or past a record."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, TopicPartition

from contract.clusters import KafkaCluster
from streams.adapters.kafka.admin.group_members import GroupMembers
from streams.adapters.kafka.admin.groups_admin import GroupsAdmin
from streams.core.errors import Conflict, NotFound
from streams.ports.kafka import Outgoing, Partition
from streams.topics import ATTEMPTS, RECORD_GROUP, RECORD_INPUTS

LONG_AGO = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.fixture
def groups(apache: KafkaCluster) -> GroupsAdmin:
    return GroupsAdmin(apache.properties, apache.prefix)


@pytest.fixture
async def read_all(apache: KafkaCluster, groups: GroupsAdmin) -> Partition:
    """Five records in one partition, all committed by `record`."""
    async with apache.producer() as producer:
        await producer.produce([Outgoing(ATTEMPTS, b"wh_1", b"v") for _ in range(5)])
    [at] = [at for at, offsets in groups.offsets(RECORD_GROUP, RECORD_INPUTS).items() if offsets.end == 5]
    groups._commit(RECORD_GROUP, {at: 5})
    return at


def committed(groups: GroupsAdmin, at: Partition) -> int:
    return groups.offsets(RECORD_GROUP, RECORD_INPUTS)[at].committed


@pytest.fixture(params=["classic", "consumer"])
def member(request: pytest.FixtureRequest, apache: KafkaCluster, read_all: Partition) -> Iterator[Consumer]:
    """A member of the group."""
    name = f"{apache.prefix}{RECORD_GROUP}"
    consumer = Consumer({**apache.properties, "group.id": name, "group.protocol": request.param})
    consumer.subscribe([apache.prefix + ATTEMPTS])
    while not consumer.assignment():
        consumer.poll(0.1)
    yield consumer
    consumer.close()


def test_a_stage_reads_again_what_came_since_a_time(groups: GroupsAdmin, read_all: Partition) -> None:
    assert groups.rewind(RECORD_GROUP, RECORD_INPUTS, datetime.now(UTC) + timedelta(hours=1)) == 0
    assert committed(groups, read_all) == 5
    assert groups.count_after_rewind(RECORD_GROUP, RECORD_INPUTS, LONG_AGO) == 5
    assert committed(groups, read_all) == 5
    assert groups.rewind(RECORD_GROUP, RECORD_INPUTS, LONG_AGO) == 5
    assert committed(groups, read_all) == 0
    assert groups.rewind(RECORD_GROUP, RECORD_INPUTS, LONG_AGO) == 0


def test_a_time_between_two_records_is_exact(apache: KafkaCluster, groups: GroupsAdmin, read_all: Partition) -> None:
    consumer = Consumer({**apache.properties, "group.id": "other", "enable.auto.commit": False})
    consumer.assign([TopicPartition(apache.prefix + read_all.topic, read_all.number, 3)])
    record = consumer.poll(20)
    consumer.close()
    assert record is not None
    appended_at = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
    groups.rewind(RECORD_GROUP, RECORD_INPUTS, appended_at + timedelta(milliseconds=1))
    assert committed(groups, read_all) > 3


def test_a_group_with_members_stays_where_it_is(groups: GroupsAdmin, read_all: Partition, member: Consumer) -> None:
    with pytest.raises(Conflict, match="has members: stop every process of record first"):
        groups.rewind(RECORD_GROUP, RECORD_INPUTS, LONG_AGO)
    assert committed(groups, read_all) == 5


def test_members_are_known_without_a_change(apache: KafkaCluster, member: Consumer) -> None:
    members = GroupMembers(apache.properties, f"{apache.prefix}{RECORD_GROUP}")
    assert len(members.client_ids()) == 1
    member.close()
    assert members.client_ids() == []


def test_members_are_noticed_without_records(groups: GroupsAdmin, read_all: Partition, member: Consumer) -> None:
    with pytest.raises(Conflict, match="has members: stop every process of record first"):
        groups.rewind(RECORD_GROUP, RECORD_INPUTS, datetime.now(UTC) + timedelta(hours=1))
    assert committed(groups, read_all) == 5


def test_a_stage_goes_on_behind_one_record(groups: GroupsAdmin, read_all: Partition) -> None:
    groups.rewind(RECORD_GROUP, RECORD_INPUTS, LONG_AGO)
    groups.skip(RECORD_GROUP, read_all, 0)
    assert committed(groups, read_all) == 1
    with pytest.raises(Conflict, match="reads 1 next"):
        groups.skip(RECORD_GROUP, read_all, 0)


def test_no_record_is_skipped_that_is_not_there(groups: GroupsAdmin, read_all: Partition) -> None:
    with pytest.raises(Conflict, match="it ends at 5"):
        groups.skip(RECORD_GROUP, read_all, 5)
    with pytest.raises(NotFound, match="has no partition 999"):
        groups.skip(RECORD_GROUP, read_all._replace(number=999), 0)
