"""The model of `scale`: each limit by hand."""

import pytest
from confluent_kafka import murmur2

from bench.model import Deployment, assign_in_ranges

WEBHOOKS = [f"wh_{number}" for number in range(60)]


def deployment(processes: int = 1, **changes: object) -> Deployment:
    given: dict[str, object] = {
        "processes": processes,
        "partitions": 24,
        "slots": 257,
        "max_concurrency": 64,
        "response_seconds": 0.5,
        "cpu": {"deliver": 0.0002, "kafka": 0.0003},
        "cores": 2,
        **changes,
    }
    return Deployment(**given)  # type: ignore[arg-type]


def test_one_process_has_a_second_for_each_256_of_one_second() -> None:
    times = deployment(response_seconds=1.0).seconds_by_limit(WEBHOOKS, 64)
    assert times == {"slots": 15.0, "endpoint": 1.0, "deliver": pytest.approx(0.768), "cores": pytest.approx(0.96)}


def test_the_process_with_the_most_deliveries_counts() -> None:
    owners = assign_in_ranges(24, 2)
    counts = [sum(owners[murmur2(name.encode(), 24)] == process for name in WEBHOOKS) for process in (0, 1)]
    assert counts[0] != counts[1]
    times = deployment(processes=2).seconds_by_limit(WEBHOOKS, 10)
    assert times["slots"] == pytest.approx(10 * max(counts) * 0.5 / 256)


@pytest.mark.parametrize(
    ("partitions", "processes", "owners"),
    [(4, 2, [0, 0, 1, 1]), (5, 2, [0, 0, 0, 1, 1]), (7, 3, [0, 0, 0, 1, 1, 2, 2]), (2, 3, [0, 1])],
)
def test_partitions_are_assigned_in_ranges(partitions: int, processes: int, owners: list[int]) -> None:
    assert assign_in_ranges(partitions, processes) == owners
