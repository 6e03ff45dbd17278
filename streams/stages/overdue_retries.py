"""Send retries again if their record is gone: otherwise their delivery would wait forever."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from streams.core.deliveries.backlog import GroupOffsets
from streams.core.errors import Unavailable
from streams.core.failed_work import WorkKind
from streams.ports.kafka import GroupLags, Partition
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import OverdueRetries
from streams.stages.postponed_work import PostponedWork
from streams.topics import DELIVER_GROUP, RECORD_GROUP, STAGE_TOPICS

CHECK_INTERVAL_SECONDS = 60.0
BATCH_ROWS = 500
# With a short schedule, `deliver` may be this late under load.
MIN_OVERDUE = timedelta(hours=1)

Offsets = Mapping[str, Mapping[Partition, GroupOffsets]]


async def resend_overdue(
    overdue_retries: OverdueRetries,
    lags: GroupLags,
    longest_wait: timedelta,
    clock: Clock,
    telemetry: Telemetry,
    postponed_work: PostponedWork,
    *,
    check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
) -> None:
    """Send retries again if they are overdue by more than the longest wait of the schedule, until cancelled.

    Only while `deliver` and `record` keep up: otherwise the record may exist, or its attempt is not stored yet.
    """
    previous_offsets: Offsets = {}
    while True:
        with suppress(Unavailable):  # Others log the outage.
            current_offsets = await lags.offsets()
            if is_keeping_up(previous_offsets, current_offsets, DELIVER_GROUP) and is_keeping_up(
                previous_offsets, current_offsets, RECORD_GROUP
            ):
                due_before = clock.now() - max(longest_wait, MIN_OVERDUE)
                async with postponed_work.unit(WorkKind.OVERDUE_RETRIES, "resend"):
                    if count := await overdue_retries.resend(due_before, BATCH_ROWS):
                        telemetry.warning("overdue_retries_sent_again", count=count, why="their records are gone")
            previous_offsets = current_offsets
        await asyncio.sleep(check_interval_seconds)


def is_keeping_up(previous_offsets: Offsets, current_offsets: Offsets, group: str) -> bool:
    """Whether a group has committed everything that was there at the previous check.

    False if a topic is missing: a broker that does not list it does not show that the group has read it.
    """
    previous = previous_offsets.get(group, {})
    is_known = {partition.topic for partition in previous} >= set(STAGE_TOPICS[group])
    return is_known and all(
        partition in current_offsets.get(group, {}) and current_offsets[group][partition].committed >= offsets.end
        for partition, offsets in previous.items()
    )
