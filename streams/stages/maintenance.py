"""Maintenance by the publisher: jobs that people start, and retention."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from streams.core.errors import Unavailable
from streams.core.job import Job
from streams.outage import JOB, RETENTION, Outage
from streams.ports import Clock, Jobs, Prunable, Pruning, Telemetry
from streams.stages.backfill import HistoryBackfill

LOOK_EVERY_SECONDS = 0.5
BATCH_ROWS = 1000
# The pause between two portions, so that `publish` and `record` do not wait.
PORTION_PAUSE_SECONDS = 0.2
PRUNE_EVERY_SECONDS = 300.0


async def run_jobs(jobs: Jobs, backfill: HistoryBackfill, telemetry: Telemetry) -> None:
    """Advance every unfinished job by one portion in turn, until cancelled.

    A job that takes long, or that cannot go on, delays no other.
    """
    postponed: dict[str, Outage] = {}
    while True:
        unfinished: Sequence[Job] = ()
        with suppress(Unavailable):  # The publisher logs it.
            unfinished = await jobs.unfinished()
        postponed = {job.id: postponed.get(job.id) or Outage(telemetry, JOB, {"job_id": job.id}) for job in unfinished}
        advanced = 0
        for job in unfinished:
            try:
                after = await (backfill.advance(job) if job.reads_history else jobs.advance(job.id))
            except Unavailable as away:
                postponed[job.id].begin(job.id, str(away))
                continue
            postponed[job.id].end(job.id)
            advanced += after != job
            if after.finished_at is not None:
                _log_end(after, telemetry)
        await asyncio.sleep(PORTION_PAUSE_SECONDS if advanced else LOOK_EVERY_SECONDS)


def _log_end(job: Job, telemetry: Telemetry) -> None:
    kind, status = str(job.kind), str(job.status)
    counts = {"done": job.done, "failed": job.failed, "no_longer_matched": job.no_longer_matched}
    ended = {"job_id": job.id, "kind": kind, "status": status, **counts}
    if job.backfill is not None:
        ended |= {"added": job.backfill.added, "skipped": job.backfill.skipped}
    telemetry.info("job_finished", **ended)


async def prune_regularly(
    pruning: Pruning, keep: Mapping[Prunable, timedelta], clock: Clock, telemetry: Telemetry
) -> None:
    """Delete the rows that are older than the retention of their kind, in small batches.

    A kind that cannot be deleted, for example because a permission is missing, delays no other.
    """
    postponed = {what: Outage(telemetry, RETENTION, {"kind": what.name.lower()}) for what in keep}
    while True:
        for what, kept in keep.items():
            try:
                while gone := await pruning.prune(what, clock.now() - kept, BATCH_ROWS):
                    telemetry.count("rows_pruned_total", gone, kind=what.name.lower())
                    await asyncio.sleep(PORTION_PAUSE_SECONDS)
            except Unavailable as away:
                postponed[what].begin(what, str(away))
            else:
                postponed[what].end(what)
        await asyncio.sleep(PRUNE_EVERY_SECONDS)
