"""Maintenance by the publisher: jobs that people start, and retention."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from streams.core.errors import Unavailable
from streams.core.job import Job
from streams.ports import Clock, Jobs, Prunable, Pruning, Telemetry
from streams.stages.backfill import HistoryBackfill

LOOK_EVERY_SECONDS = 0.5
BATCH_ROWS = 1000
# The pause between two portions, so that `publish` and `record` do not wait.
PORTION_PAUSE_SECONDS = 0.2
PRUNE_EVERY_SECONDS = 300.0


async def run_jobs(jobs: Jobs, backfill: HistoryBackfill, telemetry: Telemetry) -> None:
    """Advance every unfinished job by one portion in turn, so that a long job does not delay others."""
    while True:
        try:
            unfinished = await jobs.unfinished()
            for job in unfinished:
                job = await (backfill.advance(job) if job.reads_history else jobs.advance(job.id))
                if job.finished_at is not None:
                    _log_end(job, telemetry)
        except Unavailable:
            unfinished = []
        await asyncio.sleep(PORTION_PAUSE_SECONDS if unfinished else LOOK_EVERY_SECONDS)


def _log_end(job: Job, telemetry: Telemetry) -> None:
    kind, status = str(job.kind), str(job.status)
    ended = {"job_id": job.id, "kind": kind, "status": status, "done": job.done, "failed": job.failed}
    if job.backfill is not None:
        ended |= {"added": job.backfill.added, "skipped": job.backfill.skipped}
    telemetry.info("job_finished", **ended)


async def prune_regularly(
    pruning: Pruning, keep: Mapping[Prunable, timedelta], clock: Clock, telemetry: Telemetry
) -> None:
    """Delete the rows that are older than the retention of their kind, in small batches."""
    while True:
        for what, kept in keep.items():
            try:
                while gone := await pruning.prune(what, clock.now() - kept, BATCH_ROWS):
                    telemetry.count("rows_pruned_total", gone, kind=what.name.lower())
                    await asyncio.sleep(PORTION_PAUSE_SECONDS)
            except Unavailable:
                break
        await asyncio.sleep(PRUNE_EVERY_SECONDS)
