"""Commit the completed records of the partitions."""

from collections.abc import Iterable

from streams.core.errors import Unavailable
from streams.outage import COMMITS, Outages
from streams.ports.kafka import RecordConsumer
from streams.ports.runtime import Telemetry
from streams.stages.consuming.partition_state import PartitionState


class Commits:
    """Commits the partitions that have progress since their last commit, all in one request."""

    def __init__(self, consumer: RecordConsumer, telemetry: Telemetry, outages: Outages) -> None:
        self._consumer = consumer
        self._telemetry = telemetry
        self._outages = outages

    async def commit(self, partitions: Iterable[PartitionState]) -> None:
        states = {state.partition: state for state in partitions if state.has_progress}
        for state in states.values():
            state.has_progress = False
        commits = {partition: commit for partition, state in states.items() if (commit := state.offsets.next_commit())}
        if not commits:
            return
        try:
            await self._consumer.commit(commits)
        except Unavailable as error:
            # Uncommitted records are handled again after a restart: duplicates, no loss.
            for state in states.values():
                state.has_progress = True
            self._telemetry.count("commit_errors_total")
            self._outages[COMMITS].begin(self, str(error))
            return
        self._outages[COMMITS].end(self)
        for partition, commit in commits.items():
            states[partition].offsets.confirm_commit(commit)
