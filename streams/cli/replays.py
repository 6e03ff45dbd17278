"""Commands that send a webhook's events again, and for jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import typer

from api.deliveries.models import job_of
from streams.cli.deliveries import deliveries
from streams.cli.output import (
    JsonOption,
    YesOption,
    in_deployment,
    me,
    one_of,
    progress_bar,
    require_answer,
    show,
    time_of,
)
from streams.cli.text import say
from streams.cli.webhooks import WebhookId, webhooks
from streams.core.delivery import State
from streams.core.errors import Unavailable
from streams.core.job import Job, JobStatus
from streams.core.times import format_time
from streams.features.replays.rules import DEFAULT_STATES, REPLAYABLE, ReplayCount, ReplayRequest
from streams.runtime.bootstrap import SqlDeployment

LOOK_EVERY_SECONDS = 0.5

jobs = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@deliveries.command("replay")
def deliveries_replay(
    webhook: Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")],
    since: Annotated[
        str, typer.Option(help="Only events that the platform first saw then or later: 2026-04-10T14:32:00Z.")
    ],
    until: Annotated[str | None, typer.Option(help="Only events first seen before. Now by default.")] = None,
    event_types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type of event; may be repeated.")
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="May be repeated. By default delivered and dead.",
            **one_of(REPLAYABLE),
        ),
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Also the events that it wants and has no delivery of.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the events of a period to a webhook again, with the same ids. Shows their number, and asks, first.

    Waits for the end of the job, which goes on after Ctrl-C.
    """
    require_answer(yes, as_json)
    request = ReplayRequest(
        webhook,
        time_of("--since", since),
        time_of("--until", until) if until else None,
        tuple(event_types or ()),
        tuple(map(State, states or DEFAULT_STATES)),
        backfill,
    )

    async def count_matches(deployment: SqlDeployment) -> ReplayCount:
        return await deployment.replays().count((await deployment.webhooks().find(webhook)).webhook, request)

    async def start(deployment: SqlDeployment) -> Job:
        return await deployment.replays().start(
            (await deployment.webhooks().find(webhook)).webhook, request, actor=me()
        )

    if not yes:
        count = in_deployment(count_matches)
        if not _confirm(count):
            return
    _show_end(_do(start, quiet=as_json), as_json)


@webhooks.command("retry-waiting")
def webhooks_retry_waiting(webhook_id: WebhookId, as_json: JsonOption = False) -> None:
    """Send everything that waits for a retry now, for use after a repair. Each delivery gets a fresh schedule.

    Waits for the end of the job, which goes on after Ctrl-C.
    """

    async def start(deployment: SqlDeployment) -> Job:
        webhook = (await deployment.webhooks().find(webhook_id)).webhook
        return await deployment.deliveries().retry_waiting(webhook_id, webhook.account_id, actor=me())

    _show_end(_do(start, quiet=as_json), as_json)


@jobs.command("show")
def jobs_show(job_id: JobId, as_json: JsonOption = False) -> None:
    """Show how far a job is."""
    _show_job(in_deployment(lambda deployment: deployment.deliveries().job(job_id)), as_json)


@jobs.command("cancel")
def jobs_cancel(job_id: JobId, as_json: JsonOption = False) -> None:
    """Stop a job after its present portion. What was done stays done."""
    _show_job(in_deployment(lambda deployment: deployment.deliveries().cancel(job_id, actor=me())), as_json)


def _confirm(count: ReplayCount) -> bool:
    """Show what would be sent, and ask. False when there is nothing."""
    deliveries, missing_events = count.deliveries, count.missing
    between = f", first seen {_range(deliveries.oldest_at, deliveries.newest_at)}" if deliveries.count else ""
    say(f"{deliveries.count} {'delivery matches' if deliveries.count == 1 else 'deliveries match'}{between}")
    if missing_events:
        more = "at least " if missing_events.at_least else ""
        since = (
            f"; the topic has events since {_text(missing_events.oldest_available)}"
            if missing_events.oldest_available
            else ""
        )
        say(f"{more}{missing_events.count} events without a delivery{since}")
    if not deliveries.count and not (missing_events and (missing_events.count or missing_events.at_least)):
        say("nothing to send")
        return False
    if count.seconds is not None:
        say(f"about {max(1, round(count.seconds))} s at the endpoint's pace")
    typer.confirm("Send them again?", abort=True, err=True)
    return True


def _range(oldest: datetime | None, newest: datetime | None) -> str:
    return f"from {_text(oldest)} to {_text(newest)}"


def _text(moment: datetime | None) -> str:
    return format_time(moment) if moment else ""


def _do(start: Callable[[SqlDeployment], Awaitable[Job]], *, quiet: bool) -> Job:
    """Start a job and wait for its end."""
    jobs_started: list[Job] = []
    try:
        with progress_bar(quiet=quiet) as progress:
            task = progress.add_task("sending again", total=None)

            async def work(deployment: SqlDeployment) -> Job:
                job = await start(deployment)
                jobs_started.append(job)
                while job.status is JobStatus.RUNNING:
                    done_count, total = job.progress
                    progress.update(task, completed=done_count, total=total)
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
                    job = await deployment.deliveries().job(job.id)
                return job

            return in_deployment(work)
    except (KeyboardInterrupt, Unavailable):
        for job in jobs_started:
            say(f"the job goes on: `jobs show {job.id}` shows it, `jobs cancel {job.id}` stops it", err=True)
        raise


def _show_end(job: Job, as_json: bool) -> None:
    if as_json:
        _show_job(job, as_json)
        return
    added_note = f", {job.backfill.added} added, {job.backfill.skipped} had a delivery" if job.backfill else ""
    failed_note = f", {job.failed} could not be" if job.failed else ""
    failed_note += f", {job.no_longer_matched} changed meanwhile" if job.no_longer_matched else ""
    end = "cancelled: " if job.status is JobStatus.CANCELLED else ""
    say(f"{end}{job.done} to be sent again{added_note}{failed_note}")


def _show_job(job: Job, as_json: bool) -> None:
    show(job_of(job), as_json)
