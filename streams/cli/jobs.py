"""Commands for jobs, and the wait for their end."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from streams.cli.client import Api, open_api
from streams.cli.output import JsonOption, progress_bar, show
from streams.cli.text import say
from streams.core.errors import Unavailable

POLL_INTERVAL_SECONDS = 0.5

jobs = typer.Typer(no_args_is_help=True)

Job = dict[str, Any]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@jobs.command("show")
def jobs_show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show how far a job is."""
    with open_api() as api:
        show(api.get("jobs", job_id), as_json)


@jobs.command("cancel")
def jobs_cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Stop a job after its present batch. What it has done is kept."""
    with open_api() as api:
        show(api.post("jobs", job_id, "cancel"), as_json)


def wait_for_jobs(api: Api, message: str, jobs: Sequence[Job], *, is_quiet: bool) -> list[Job]:
    """Wait for the end of some jobs, with a progress bar. Returns the ended jobs."""
    ended_jobs: list[Job] = []
    try:
        with progress_bar(is_quiet=is_quiet) as progress:
            task_id = progress.add_task(message, total=sum(map(_total, jobs)))
            for job in jobs:
                while job["status"] == "running":
                    time.sleep(POLL_INTERVAL_SECONDS)
                    job = api.get("jobs", job["id"])
                    progress.update(task_id, completed=sum(map(_done, ended_jobs)) + _done(job))
                ended_jobs.append(job)
    except (KeyboardInterrupt, Unavailable):
        for job in jobs[len(ended_jobs) :]:
            say(f"the job goes on: `jobs show {job['id']}` shows it, `jobs cancel {job['id']}` stops it", err=True)
        raise
    return ended_jobs


def result_text(job: Job) -> str:
    """How a job that sends deliveries again ended."""
    backfill = job.get("backfill")
    added_note = f", {backfill['added']} added, {backfill['skipped']} had a delivery" if backfill else ""
    failed_note = f", {job['failed']} could not be" if job["failed"] else ""
    failed_note += f", {job['noLongerMatched']} changed after it began" if job["noLongerMatched"] else ""
    status_text = "cancelled: " if job["status"] == "cancelled" else ""
    return f"{status_text}{job['done']} to be sent again{added_note}{failed_note}"


def _total(job: Job) -> int:
    return int(job["total"]) + int(job.get("backfill", {}).get("records", 0))


def _done(job: Job) -> int:
    return int(job["done"]) + int(job["failed"]) + int(job.get("backfill", {}).get("read", 0))
