"""Finish erasures whose request did not finish them: it took too long, or its process ended."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from streams.core.erasures.erasure import Erasure
from streams.core.errors import Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import Erasures
from streams.stages.postponed_work import PostponedWork

POLL_INTERVAL_SECONDS = 2.0
# The pause between two portions, so that `publish` and `record` do not wait.
PORTION_PAUSE_SECONDS = 0.05
# Until this time the request erases by itself.
TAKEOVER_DELAY = timedelta(seconds=8)


async def finish_erasures(
    erasures: Erasures,
    clock: Clock,
    telemetry: Telemetry,
    postponed_work: PostponedWork,
    *,
    poll_interval_seconds: float = POLL_INTERVAL_SECONDS,
    portion_pause_seconds: float = PORTION_PAUSE_SECONDS,
) -> None:
    """Advance every unfinished erasure by one portion in turn, until cancelled. A failed one does not stop others."""
    while True:
        unfinished_erasures: Sequence[Erasure] = ()
        failed_rows: list[FailedRow] = []
        with suppress(Unavailable):  # The lease logs it.
            unfinished_erasures = await erasures.list_unfinished(clock.now() - TAKEOVER_DELAY, failed_rows)
        await postponed_work.postpone_rows(WorkKind.ERASURE, failed_rows)
        advanced_count = 0
        for unfinished_erasure in unfinished_erasures:
            if not postponed_work.is_due(WorkKind.ERASURE, unfinished_erasure.id):
                continue
            with suppress(Unavailable):
                async with postponed_work.unit(WorkKind.ERASURE, unfinished_erasure.id, unfinished_erasure.account_id):
                    erasure = await erasures.do_next_portion(unfinished_erasure.id)
                    advanced_count += 1
                    if erasure.is_finished:
                        telemetry.info("erasure_finished", erasure_id=erasure.id, account_id=erasure.account_id)
        await asyncio.sleep(portion_pause_seconds if advanced_count else poll_interval_seconds)
