"""Report that a partition waits because a newer release wrote its next record."""

from collections.abc import Sequence

from streams.core.errors import NewerRecord
from streams.ports.kafka import Record
from streams.ports.runtime import Telemetry


def pause_for_newer_release(telemetry: Telemetry, record: Record, error: NewerRecord) -> str:
    """Log the record at which its partition stops. Returns the readiness problem."""
    telemetry.error("newer_record", **record.place, why=str(error), effect="its partition waits for a newer release")
    topic, number = record.partition
    return f"{topic} {number}: a newer release wrote the record at offset {record.offset}; upgrade this stage ({error})"


def as_one_problem(problems: Sequence[str]) -> list[str]:
    """One problem for all waiting partitions: the first one's, and the number of others."""
    if len(problems) < 2:
        return list(problems)
    return [f"{problems[0]}; further partitions wait as well: {len(problems) - 1}, see newer_record in the log"]
