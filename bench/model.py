"""A model of how fast processes of `deliver` work off a backlog: what each limit alone would allow."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import murmur2

# `deliver` keeps one slot free for tests.
RESERVED_SLOTS = 1


@dataclass(frozen=True)
class Deployment:
    """Processes of `deliver`, and the machine that all parts share.

    `cpu` has the CPU time of a delivery in each part, in seconds. `cores` is the number of processors.
    """

    processes: int
    partitions: int
    slots: int
    max_concurrency: int
    response_seconds: float
    cpu: Mapping[str, float]
    cores: int

    def seconds_by_limit(self, webhook_ids: Sequence[str], deliveries_each: int) -> dict[str, float]:
        """How long a backlog would take if each limit were the only one; the longest is the prediction.

        - `slots`: requests in flight in the process with the most deliveries;
        - `endpoint`: requests in flight to one endpoint;
        - `deliver`: one processor for that process, because Python uses no more;
        - `cores`: the CPU time of all parts on all processors.
        """
        most = max(deliveries_each * count for count in self._webhooks_of_each_process(webhook_ids))
        return {
            "slots": most * self.response_seconds / (self.slots - RESERVED_SLOTS),
            "endpoint": deliveries_each * self.response_seconds / self.max_concurrency,
            "deliver": most * self.cpu["deliver"],
            "cores": len(webhook_ids) * deliveries_each * sum(self.cpu.values()) / self.cores,
        }

    def _webhooks_of_each_process(self, webhook_ids: Iterable[str]) -> Iterable[int]:
        owners = assign_in_ranges(self.partitions, self.processes)
        return Counter(owners[murmur2(webhook_id.encode(), self.partitions)] for webhook_id in webhook_ids).values()


def assign_in_ranges(partitions: int, processes: int) -> list[int]:
    """The process of each partition, by Kafka's assignor `range`: consecutive ones, the first processes one more."""
    each, more = divmod(partitions, processes)
    return [process for process in range(processes) for _ in range(each + (process < more))]
