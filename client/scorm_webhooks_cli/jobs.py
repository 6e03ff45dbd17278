"""Commands for jobs, and waiting until jobs end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.output import JsonOption, progress_bar, show
from scorm_webhooks_cli.text import hint, say
from streams.core.errors import ScormWebhooksError

POLL_INTERVAL_SECONDS = 0.5
# Long jobs are polled less often, to save the account's rate limit.
SLOW_POLL_INTERVAL_SECONDS = 3.0
SLOW_AFTER_SECONDS = 60.0
HINT_AFTER_SECONDS = 10.0

jobs = typer.Typer(no_args_is_help=True)

Job = dict[str, Any]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@jobs.command("show")
def jobs_show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show a job's progress."""
    with open_api() as api:
        show(api.get("jobs", job_id), as_json)


@jobs.command("cancel")
def jobs_cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Stop a job after its current batch. Work that is done is kept."""
    with open_api() as api:
        show(api.post("jobs", job_id, "cancel"), as_json)


def poll(api: ApiClient, *path: str) -> Iterator[dict[str, Any]]:
    """Yield the state of a job or an erasure repeatedly, until it is no longer running."""
    began_at = time.monotonic()
    while True:
        work = api.get(*path)
        yield work
        if work["status"] != "running":
            return
        seconds = time.monotonic() - began_at
        time.sleep(POLL_INTERVAL_SECONDS if seconds < SLOW_AFTER_SECONDS else SLOW_POLL_INTERVAL_SECONDS)


@contextmanager
def warn_if_stalled(has_work: bool, after_seconds: float = HINT_AFTER_SECONDS) -> Iterator[Callable[[int], None]]:
    """Yields a callback for the number of done rows. It warns once if that is still 0 after some seconds."""
    began_at, is_warned = time.monotonic(), not has_work

    def on_progress(done_count: int) -> None:
        nonlocal is_warned
        is_warned = is_warned or done_count > 0
        if not is_warned and time.monotonic() - began_at > after_seconds:
            is_warned = True
            hint("no progress yet: check that `maintain` is running")

    yield on_progress


@contextmanager
def report_unfinished_jobs(jobs: Sequence[Job]) -> Iterator[None]:
    """If the command is interrupted, print which jobs are still running."""
    try:
        yield
    except (KeyboardInterrupt, ScormWebhooksError):
        for job in jobs:
            if job["status"] == "running":
                say(f"still running: see `jobs show {job['id']}`, stop: `jobs cancel {job['id']}`", err=True)
        raise


def wait_for_jobs(api: ApiClient, message: str, jobs: list[Job], *, is_quiet: bool) -> None:
    """Wait until all jobs end, with a progress bar. Updates `jobs` in place."""
    # A backfill counts its records when it begins.
    has_work = any(job["total"] or "backfill" in job for job in jobs)
    with (
        report_unfinished_jobs(jobs),
        progress_bar(is_disabled=is_quiet) as progress,
        warn_if_stalled(has_work) as on_progress,
    ):
        task_id, is_said = progress.add_task(message, total=None), is_quiet
        for index, job in enumerate(jobs):
            for jobs[index] in poll(api, "jobs", job["id"]):
                done_count = sum(map(_done_count, jobs))
                progress.update(task_id, completed=done_count, total=sum(map(_total_count, jobs)))
                on_progress(done_count)
                if not is_said and jobs[index].get("waitsUntil") and done_count == sum(map(_total_count, jobs)):
                    is_said = True
                    hint(f"until {jobs[index]['waitsUntil']} it looks for events of the period that are stored late")


_BACKFILL_NOTES = ("added", "already had a delivery")


def result_text(jobs: Sequence[Job], verb: str) -> str:
    """A sentence with the totals of some jobs that ended."""
    notes = {
        "added": sum(job.get("backfill", {}).get("added", 0) for job in jobs),
        "already had a delivery": sum(job.get("backfill", {}).get("skipped", 0) for job in jobs),
        "failed": sum(job["failed"] for job in jobs),
        "changed after the job began": sum(job["unmatched"] for job in jobs),
    }
    has_backfill = any("backfill" in job for job in jobs)
    texts = [f"{count} {note}" for note, count in notes.items() if count or (has_backfill and note in _BACKFILL_NOTES)]
    status_text = "cancelled: " if any(job["status"] == "cancelled" for job in jobs) else ""
    return status_text + ", ".join([f"{sum(job['done'] for job in jobs)} {verb}", *texts])


def _total_count(job: Job) -> int:
    return int(job["total"]) + int(job.get("backfill", {}).get("records", 0))


def _done_count(job: Job) -> int:
    return int(job["done"]) + int(job["failed"]) + int(job.get("backfill", {}).get("read", 0))
