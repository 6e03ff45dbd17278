"""Jobs that people start: replays, backfills, retries and discards, in portions."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from streams.core.deliveries.job import Job
from streams.core.errors import Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.features.replays.backfill import HistoryBackfill
from streams.outage import JOB, Outage
from streams.ports.runtime import Telemetry
from streams.ports.storage import Jobs
from streams.stages.postponed_work import PostponedWork

POLL_INTERVAL_SECONDS = 0.5
# The pause between two portions, so that other stages do not wait for the database.
PORTION_PAUSE_SECONDS = 0.2


async def run_jobs(
    jobs: Jobs,
    backfill: HistoryBackfill,
    telemetry: Telemetry,
    postponed_work: PostponedWork,
    *,
    poll_interval_seconds: float = POLL_INTERVAL_SECONDS,
    portion_pause_seconds: float = PORTION_PAUSE_SECONDS,
) -> None:
    """Advance unfinished jobs, until cancelled: in each round one job of each account by one portion.

    So other accounts' jobs, long jobs and blocked jobs do not delay a job.
    """
    turns = _JobTurns(jobs, backfill, telemetry, postponed_work)
    while True:
        advanced_count = await turns.run_round()
        await asyncio.sleep(portion_pause_seconds if advanced_count else poll_interval_seconds)


class _JobTurns:
    """The turns of accounts, and of the jobs of each account."""

    def __init__(
        self, jobs: Jobs, backfill: HistoryBackfill, telemetry: Telemetry, postponed_work: PostponedWork
    ) -> None:
        self._postponed_work = postponed_work
        self._jobs = jobs
        self._backfill = backfill
        self._telemetry = telemetry
        self._rounds = 0
        self._job_outages: dict[str, Outage] = {}

    async def run_round(self) -> int:
        """Run one round. Returns how many jobs advanced."""
        self._rounds += 1
        advanced_count, outages, account_id = 0, dict[str, Outage](), ""
        with suppress(Unavailable):  # The lease logs it.
            while True:
                failed_rows: list[FailedRow] = []
                jobs_of_account = await self._jobs.list_unfinished(account_id, failed_rows)
                if not jobs_of_account and not failed_rows:
                    break
                account_id = jobs_of_account[0].account_id if jobs_of_account else failed_rows[0].account_id
                await self._postponed_work.postpone_rows(WorkKind.JOB, failed_rows)
                advanced_count += await self._run_turn(jobs_of_account)
                outages |= {job.id: self._job_outages[job.id] for job in jobs_of_account if job.id in self._job_outages}
            # Forget jobs that were cancelled.
            self._job_outages = outages
        return advanced_count

    async def _run_turn(self, jobs_of_account: Sequence[Job]) -> bool:
        """Whether one of an account's jobs made progress. In turn, each job comes first."""
        first_index = self._rounds % max(1, len(jobs_of_account))
        for job in (*jobs_of_account[first_index:], *jobs_of_account[:first_index]):
            if await self._try_to_advance(job):
                return True
        return False

    async def _try_to_advance(self, job: Job) -> bool:
        has_advanced = False
        if self._postponed_work.is_due(WorkKind.JOB, job.id):
            async with self._postponed_work.unit(WorkKind.JOB, job.id, job.account_id):
                has_advanced = await self._advance_job(job)
        return has_advanced

    async def _advance_job(self, job: Job) -> bool:
        try:
            job_after = await (
                self._backfill.do_next_portion(job) if job.is_backfilling else self._jobs.do_next_portion(job.id)
            )
        except Unavailable as error:
            outage = self._job_outages.setdefault(job.id, Outage(self._telemetry, JOB, {"job_id": job.id}))
            outage.begin(job.id, str(error))
            return False
        if job.id in self._job_outages:
            self._job_outages.pop(job.id).end(job.id)
        if job_after.finished_at is not None:
            _log_end(job_after, self._telemetry)
        return job_after != job


def _log_end(job: Job, telemetry: Telemetry) -> None:
    kind, status = str(job.kind), str(job.status)
    counts = {"done": job.done, "failed": job.failed, "unmatched": job.unmatched}
    log_fields = {"job_id": job.id, "kind": kind, "status": status, **counts}
    if job.backfill is not None:
        log_fields |= {"added": job.backfill.added, "skipped": job.backfill.skipped}
    telemetry.info("job_finished", **log_fields)
