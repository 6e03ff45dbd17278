"""Commands that send a webhook's events again, and for jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import typer

from api.deliveries.models import job_of
from streams.adapters.clock import SystemClock
from streams.cli.deliveries import deliveries
from streams.cli.output import (
    JsonOption,
    YesOption,
    choice_option,
    current_actor,
    parse_time_option,
    progress_bar,
    require_answer,
    run_in_deployment,
    show,
)
from streams.cli.text import say
from streams.cli.webhooks import WebhookArgument, webhooks
from streams.core.deliveries.delivery import State
from streams.core.deliveries.job import Job, JobStatus
from streams.core.errors import Unavailable
from streams.core.times import format_time
from streams.features.replays.rules import DEFAULT_STATES, REPLAYABLE, ReplayCount, ReplayRequest
from streams.runtime.bootstrap import SqlDeployment

POLL_INTERVAL_SECONDS = 0.5

jobs = typer.Typer(no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


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
            **choice_option(REPLAYABLE),
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
        parse_time_option("--since", since),
        # The count and the start mean the same period.
        parse_time_option("--until", until) if until else SystemClock().now(),
        tuple(event_types or ()),
        tuple(map(State, states or DEFAULT_STATES)),
        backfill,
    )

    async def count_matches(deployment: SqlDeployment) -> ReplayCount:
        return await deployment.replays().count((await deployment.webhooks().find(webhook)).webhook, request)

    async def start(deployment: SqlDeployment) -> Job:
        return await deployment.replays().start(
            (await deployment.webhooks().find(webhook)).webhook, request, actor=current_actor()
        )

    if not yes:
        count = run_in_deployment(count_matches)
        if not _confirm_replay(count):
            return
    _show_result(_run_job(start, is_quiet=as_json), as_json)


@webhooks.command("retry-waiting")
def webhooks_retry_waiting(webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Send everything that waits for a retry now, for use after a repair. Each delivery gets a fresh schedule.

    Waits for the end of the job, which goes on after Ctrl-C.
    """

    async def start(deployment: SqlDeployment) -> Job:
        webhook = (await deployment.webhooks().find(webhook_id)).webhook
        return await deployment.deliveries().retry_waiting(webhook_id, webhook.account_id, actor=current_actor())

    _show_result(_run_job(start, is_quiet=as_json), as_json)


@jobs.command("show")
def jobs_show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show how far a job is."""
    _show_job(run_in_deployment(lambda deployment: deployment.deliveries().job(job_id)), as_json)


@jobs.command("cancel")
def jobs_cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Stop a job after its present batch. What it has done is kept."""
    _show_job(
        run_in_deployment(lambda deployment: deployment.deliveries().cancel(job_id, actor=current_actor())), as_json
    )


def _confirm_replay(replay_count: ReplayCount) -> bool:
    """Show what would be sent, and ask. False when there is nothing."""
    deliveries, missing_events = replay_count.deliveries, replay_count.missing
    period_text = f", first seen {_range_text(deliveries.oldest_at, deliveries.newest_at)}" if deliveries.count else ""
    say(f"{deliveries.count} {'delivery matches' if deliveries.count == 1 else 'deliveries match'}{period_text}")
    if missing_events:
        at_least_text = "at least " if missing_events.at_least else ""
        since_text = (
            f"; the topic has events since {_time_text(missing_events.oldest_available)}"
            if missing_events.oldest_available
            else ""
        )
        say(f"{at_least_text}{missing_events.count} events without a delivery{since_text}")
    if not deliveries.count and not (missing_events and (missing_events.count or missing_events.at_least)):
        say("nothing to send")
        return False
    if replay_count.estimated_seconds is not None:
        say(f"about {max(1, round(replay_count.estimated_seconds))} s at the endpoint's pace")
    typer.confirm("Send them again?", abort=True, err=True)
    return True


def _range_text(oldest: datetime | None, newest: datetime | None) -> str:
    return f"from {_time_text(oldest)} to {_time_text(newest)}"


def _time_text(time: datetime | None) -> str:
    return format_time(time) if time else ""


def _run_job(start: Callable[[SqlDeployment], Awaitable[Job]], *, is_quiet: bool) -> Job:
    """Start a job and wait for its end."""
    started_jobs: list[Job] = []
    try:
        with progress_bar(is_quiet=is_quiet) as progress:
            task_id = progress.add_task("sending again", total=None)

            async def work(deployment: SqlDeployment) -> Job:
                job = await start(deployment)
                started_jobs.append(job)
                while job.status is JobStatus.RUNNING:
                    done_count, total = job.progress
                    progress.update(task_id, completed=done_count, total=total)
                    await asyncio.sleep(POLL_INTERVAL_SECONDS)
                    job = await deployment.deliveries().job(job.id)
                return job

            return run_in_deployment(work)
    except (KeyboardInterrupt, Unavailable):
        for job in started_jobs:
            say(f"the job goes on: `jobs show {job.id}` shows it, `jobs cancel {job.id}` stops it", err=True)
        raise


def _show_result(job: Job, as_json: bool) -> None:
    if as_json:
        _show_job(job, as_json)
        return
    added_note = f", {job.backfill.added} added, {job.backfill.skipped} had a delivery" if job.backfill else ""
    failed_note = f", {job.failed} could not be" if job.failed else ""
    failed_note += f", {job.no_longer_matched} changed after it began" if job.no_longer_matched else ""
    status_text = "cancelled: " if job.status is JobStatus.CANCELLED else ""
    say(f"{status_text}{job.done} to be sent again{added_note}{failed_note}")


def _show_job(job: Job, as_json: bool) -> None:
    show(job_of(job), as_json)
