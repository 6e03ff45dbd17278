"""While the members of a group change, the broker refuses a commit for a moment, and the question for the last one."""

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.consuming.last_commits import read_commits, write_commits

Refusal = Callable[[int], KafkaException | KafkaError]

SECONDS = 1.0
DELIVERIES = TopicPartition("deliveries", 3, 17, "1:AQ==")
ENDS = [DELIVERIES]

# The whole request is refused, or one partition of it, as librdkafka tells of both.
REFUSALS: dict[str, Refusal] = {
    "whole": lambda code: KafkaException(KafkaError(code)),
    "partition": KafkaError,
}


class Broker(Consumer):
    """Refuses the first requests with these codes, and accepts what follows."""

    def __init__(self, refusal: Refusal, codes: Sequence[int]) -> None:
        super().__init__({"group.id": "group", "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        self.refusals = [refusal(code) for code in codes]
        self.asked = 0
        self.accepted: list[TopicPartition] = []

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        assert timeout > 0
        return self._answer(partitions)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:  # type: ignore[override]
        assert not asynchronous
        self.accepted = self._answer(offsets)
        return self.accepted

    def _answer(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        self.asked += 1
        if not self.refusals:
            return partitions
        match self.refusals.pop(0):
            case KafkaException() as whole:
                raise whole
            case error:
                return [refused_partition(error)]


def refused_partition(error: KafkaError) -> TopicPartition:
    """A partition of an answer, with its error, which is read-only."""
    kind: type[TopicPartition] = type("Refused", (TopicPartition,), {"error": error})
    return kind("deliveries", 3)


@pytest.fixture(params=REFUSALS)
def refusal(request: pytest.FixtureRequest) -> Refusal:
    return REFUSALS[request.param]


def test_a_stale_epoch_passes_and_the_commits_are_read(refusal: Refusal) -> None:
    broker = Broker(refusal, [KafkaError.STALE_MEMBER_EPOCH] * 2)
    assert read_commits(broker, ENDS, SECONDS) == ENDS
    assert broker.asked == 3


def test_a_stale_epoch_passes_and_the_commit_is_written(refusal: Refusal) -> None:
    broker = Broker(refusal, [KafkaError.STALE_MEMBER_EPOCH, KafkaError.NOT_COORDINATOR])
    write_commits(broker, ENDS, SECONDS)
    assert broker.accepted == ENDS


def test_the_answer_to_a_fenced_member_is_final(refusal: Refusal) -> None:
    broker = Broker(refusal, [KafkaError.FENCED_MEMBER_EPOCH])
    with pytest.raises(KafkaException) as refused:
        write_commits(broker, ENDS, SECONDS)
    assert refused.value.args[0].code() == KafkaError.FENCED_MEMBER_EPOCH
    assert broker.asked == 1


def test_it_asks_for_a_limited_time(refusal: Refusal) -> None:
    broker = Broker(refusal, [KafkaError.STALE_MEMBER_EPOCH] * 100)
    with pytest.raises(KafkaException) as refused:
        read_commits(broker, ENDS, SECONDS / 2)
    assert refused.value.args[0].code() == KafkaError.STALE_MEMBER_EPOCH
    assert 1 < broker.asked < 10
