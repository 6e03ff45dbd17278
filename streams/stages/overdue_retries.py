"""Send retries again whose record is gone: their delivery would wait for ever."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from streams.core.backlog import GroupOffsets
from streams.core.errors import Unavailable
from streams.ports import Clock, GroupLags, OverdueRetries, Partition, Telemetry
from streams.topics import DELIVER_GROUP, RECORD_GROUP

LOOK_EVERY_SECONDS = 60.0
BATCH_ROWS = 500
# With a short schedule, `deliver` may be as late as that under load.
MIN_OVERDUE = timedelta(hours=1)

Offsets = Mapping[str, Mapping[Partition, GroupOffsets]]


async def send_overdue_again(
    overdue: OverdueRetries, lags: GroupLags, longest_wait: timedelta, clock: Clock, telemetry: Telemetry
) -> None:
    """Send retries again that are overdue by more than the longest wait of the schedule, until cancelled.

    Only while `deliver` and `record` keep up: otherwise the record may be there, or its attempt is not stored yet.
    """
    earlier_offsets: Offsets = {}
    while True:
        with suppress(Unavailable):  # Others log the outage.
            now = await lags.offsets()
            if keeps_up(earlier_offsets, now, DELIVER_GROUP) and keeps_up(earlier_offsets, now, RECORD_GROUP):
                due_before = clock.now() - max(longest_wait, MIN_OVERDUE)
                if count := await overdue.send_again(due_before, BATCH_ROWS):
                    telemetry.warning("overdue_retries_sent_again", count=count, why="their records are gone")
            earlier_offsets = now
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def keeps_up(earlier_offsets: Offsets, now: Offsets, group: str) -> bool:
    """Whether a group has committed everything that was there at the look before."""
    return group in earlier_offsets and all(
        partition in now.get(group, {}) and now[group][partition].committed >= offsets.end
        for partition, offsets in earlier_offsets[group].items()
    )
