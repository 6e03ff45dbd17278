"""Commands for jobs, and the wait for their end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from streams.cli.client import Api, open_api
from streams.cli.output import JsonOption, progress_bar, show
from streams.cli.text import say
from streams.core.errors import ScormWebhooksError

POLL_INTERVAL_SECONDS = 0.5
# A long job costs few of the requests that its account may make in a minute.
SLOW_POLL_INTERVAL_SECONDS = 3.0
SLOW_AFTER_SECONDS = 60.0
HINT_AFTER_SECONDS = 10.0

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


def poll(api: Api, *path: str) -> Iterator[dict[str, Any]]:
    """A job or an erasure, again and again until it is not running any more."""
    began_at = time.monotonic()
    while True:
        work = api.get(*path)
        yield work
        if work["status"] != "running":
            return
        seconds = time.monotonic() - began_at
        time.sleep(POLL_INTERVAL_SECONDS if seconds < SLOW_AFTER_SECONDS else SLOW_POLL_INTERVAL_SECONDS)


@contextmanager
def hints_about_maintain(total: int, after_seconds: float = HINT_AFTER_SECONDS) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how much is done. If nothing is after some seconds, it says once what is missing."""
    began_at, is_said = time.monotonic(), total == 0

    def note(done_count: int) -> None:
        nonlocal is_said
        is_said = is_said or done_count > 0
        if not is_said and time.monotonic() - began_at > after_seconds:
            is_said = True
            say("nothing is done yet: is `maintain` running?", err=True)

    yield note


@contextmanager
def naming_unfinished(jobs: Sequence[Job]) -> Iterator[None]:
    """Say which jobs go on if the command ends before them."""
    try:
        yield
    except (KeyboardInterrupt, ScormWebhooksError):
        for job in jobs:
            if job["status"] == "running":
                say(f"the job goes on: `jobs show {job['id']}` shows it, `jobs cancel {job['id']}` stops it", err=True)
        raise


def wait_for_jobs(api: Api, message: str, jobs: list[Job], *, is_quiet: bool) -> None:
    """Wait for the end of some jobs, with a progress bar. The list has their present state."""
    total = sum(map(_total, jobs))
    with naming_unfinished(jobs), progress_bar(is_quiet=is_quiet) as progress, hints_about_maintain(total) as note:
        task_id = progress.add_task(message, total=total)
        for index, job in enumerate(jobs):
            for jobs[index] in poll(api, "jobs", job["id"]):
                done_count = sum(map(_done, jobs))
                progress.update(task_id, completed=done_count)
                note(done_count)


def result_text(jobs: Sequence[Job], verb: str) -> str:
    """How some jobs ended."""
    notes = {
        "added": sum(job.get("backfill", {}).get("added", 0) for job in jobs),
        "had a delivery": sum(job.get("backfill", {}).get("skipped", 0) for job in jobs),
        "could not be": sum(job["failed"] for job in jobs),
        "changed after it began": sum(job["noLongerMatched"] for job in jobs),
    }
    has_backfill = any("backfill" in job for job in jobs)
    texts = [f"{count} {note}" for note, count in notes.items() if count or (has_backfill and note in _OF_A_BACKFILL)]
    status_text = "cancelled: " if any(job["status"] == "cancelled" for job in jobs) else ""
    return status_text + ", ".join([f"{sum(job['done'] for job in jobs)} {verb}", *texts])


_OF_A_BACKFILL = ("added", "had a delivery")


def _total(job: Job) -> int:
    return int(job["total"]) + int(job.get("backfill", {}).get("records", 0))


def _done(job: Job) -> int:
    return int(job["done"]) + int(job["failed"]) + int(job.get("backfill", {}).get("read", 0))
