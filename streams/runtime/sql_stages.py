"""The stages `publish`, `maintain`, `meter` and `notify`, with their parts."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from ulid import ULID

from streams.adapters.threads import run_in_worker_thread
from streams.features.course_sessions.stage import DueReports
from streams.features.learners.stage import finish_erasures
from streams.features.mails.stage import Notify
from streams.features.replays.backfill import HistoryBackfill
from streams.features.replays.stage import run_jobs
from streams.features.usage.account_check import AccountCheck
from streams.features.usage.stage import Meter
from streams.ports.runtime import Telemetry
from streams.runtime.running_stage import Stage
from streams.runtime.sql_parts import SqlParts
from streams.stages.backlog_metrics import expose_backlog
from streams.stages.end_pulls import EndPulls
from streams.stages.lease import LeaseKeeper
from streams.stages.outgoing_events import send_outgoing_events
from streams.stages.overdue_retries import resend_overdue
from streams.stages.probe_paused import ProbePaused
from streams.stages.publish import ConfirmDeletion, Publish, ReconcileResult
from streams.stages.publish_erasures import ErasureReconcileResult, PublishErasures
from streams.stages.release_held import ReleaseHeld
from streams.stages.retention import prune_regularly
from streams.topics import METER_GROUP, SESSION_EVENTS


class Reconciled(NamedTuple):
    """The results of a reconciliation. `deleted_again` webhooks are deleted in SQL, as they were on the topic."""

    webhooks: ReconcileResult
    erasures: ErasureReconcileResult
    deleted_again: int


def _lease_keeper(stage: str, deployment: SqlParts, telemetry: Telemetry) -> LeaseKeeper:
    outages = deployment.outages(telemetry)
    return LeaseKeeper(deployment.lease(stage), deployment.encryption_check, telemetry, outages)


class Publishing:
    """The parts of the stage `publish`. Events and changes of webhooks wait for it."""

    def __init__(self, deployment: SqlParts, telemetry: Telemetry) -> None:
        self.deployment = deployment
        self.outages, self.postponed_work = deployment.outages(telemetry), deployment.postponed_work(telemetry)
        self.subscriptions = deployment.subscriptions_reader(telemetry)
        self.erasures = deployment.erasures_reader(telemetry)
        self.producer = deployment.producer(telemetry)
        self.lease = _lease_keeper("publish", deployment, telemetry)
        self.webhooks_writer = Publish(
            deployment.outbox(),
            self.lease,
            self.producer,
            deployment.codec,
            telemetry,
            deployment.encryption_check,
            deployment.clock,
            new_incarnation=lambda: str(ULID()),
            outages=self.outages,
            postponed_work=self.postponed_work,
        )
        self.erasures_writer = PublishErasures(
            deployment.erasure_outbox(),
            deployment.erasure_history(),
            self.producer,
            telemetry,
            deployment.clock,
            new_incarnation=lambda: str(ULID()),
            outages=self.outages,
            postponed_work=self.postponed_work,
        )

    async def close(self) -> None:
        await self.producer.close()
        await self.deployment.database.close()


def publish(deployment: SqlParts, telemetry: Telemetry) -> Stage:
    """The stage `publish`."""
    publishing = Publishing(deployment, telemetry)
    subscriptions, erasures, producer = publishing.subscriptions, publishing.erasures, publishing.producer
    postponed_work, clock = publishing.postponed_work, deployment.clock
    reports = DueReports(deployment.stored_course_sessions(telemetry), clock, publishing.outages, postponed_work)
    held_ports = (
        deployment.held_deliveries(),
        deployment.recorder(telemetry),
        subscriptions,
        producer,
        deployment.codec,
        clock,
        telemetry,
        postponed_work,
    )
    release_held = ReleaseHeld(*held_ports, deployment.settings.release_rate)
    end_pulls = EndPulls(
        deployment.stored_webhooks(),
        deployment.held_deliveries(),
        subscriptions,
        clock,
        postponed_work,
        release_held.end_holds,
    )

    async def write_webhooks() -> None:
        telemetry.gauge("publisher", 1)
        await subscriptions.wait_until_read()
        await publishing.webhooks_writer.run(subscriptions.table)

    async def write_erasures() -> None:
        await erasures.wait_until_read()
        await publishing.erasures_writer.run(erasures.table)

    def once_ready(run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def wait_and_run() -> None:
            await subscriptions.wait_until_ready()
            await run()

        return wait_and_run

    return Stage(
        tasks=[
            partial(deployment.encryption_check.watch, publishing.outages),
            partial(
                publishing.lease.hold,
                # Read the topics only when no other process writes to them.
                subscriptions.run,
                erasures.run,
                write_webhooks,
                write_erasures,
                once_ready(release_held.run),
                once_ready(ProbePaused(*held_ports).run),
                once_ready(end_pulls.run),
                lambda: send_outgoing_events(
                    deployment.outgoing_events(), producer, telemetry, publishing.outages, postponed_work
                ),
                reports.report_scores,
                reports.report_ends,
            ),
        ],
        closes=[publishing.close],
        problems=[
            deployment.encryption_check.problems,
            deployment.database.readiness_problems,
            producer.readiness_problems,
        ],
    )


async def reconcile_topics(deployment: SqlParts, telemetry: Telemetry, may_delete: ConfirmDeletion) -> Reconciled:
    """Make `subscriptions` match SQL, and merge `erasures` with SQL. Runs once, as the only publisher.

    Webhooks whose deletion only the topic knows are deleted in SQL, too.
    """
    publishing, results = Publishing(deployment, telemetry), list[Reconciled]()

    async def reconcile_once() -> None:
        await publishing.erasures.wait_until_read()
        erasures = await publishing.erasures_writer.reconcile(publishing.erasures.table)
        await publishing.subscriptions.wait_until_read()
        table = publishing.subscriptions.table
        # First, because the stage raises the version of every webhook above that of its tombstone.
        deleted_count = await deployment.stored_webhooks().delete_again(table.tombstones or {})
        webhooks = await publishing.webhooks_writer.reconcile(table, may_delete)
        results.append(Reconciled(webhooks, erasures, deleted_count))

    try:
        await publishing.lease.hold(publishing.subscriptions.run, publishing.erasures.run, reconcile_once)
    finally:
        await publishing.close()
    return results[0]


def maintain(deployment: SqlParts, telemetry: Telemetry) -> Stage:
    """The stage `maintain`. No event or webhook change waits for it."""
    outages, postponed_work = deployment.outages(telemetry), deployment.postponed_work(telemetry)
    jobs, clock, lags = deployment.jobs(), deployment.clock, deployment.group_lags()
    longest_wait = deployment.settings.retry_schedule.tiers[-1].wait
    backfill = HistoryBackfill(
        jobs, deployment.stored_webhooks(), deployment.event_history(), deployment.event_codec, clock, outages
    )
    overdue, backlogs = deployment.overdue_retries(), deployment.backlogs()
    return Stage(
        tasks=[
            partial(deployment.encryption_check.watch, outages),
            partial(
                _lease_keeper("maintain", deployment, telemetry).hold,
                partial(run_jobs, jobs, backfill, telemetry, postponed_work),
                partial(finish_erasures, deployment.erasures(), clock, telemetry, postponed_work),
                partial(
                    prune_regularly,
                    deployment.pruning(),
                    deployment.retention_by_kind(),
                    clock,
                    telemetry,
                    postponed_work,
                ),
                partial(resend_overdue, overdue, lags, longest_wait, clock, telemetry, postponed_work),
                partial(expose_backlog, backlogs, lags, clock, telemetry, postponed_work),
            ),
        ],
        closes=[deployment.database.close],
        problems=[deployment.encryption_check.problems, deployment.database.readiness_problems],
    )


def meter(deployment: SqlParts, telemetry: Telemetry) -> Stage:
    """The stage `meter`."""
    consumer = deployment.consumer(METER_GROUP, [SESSION_EVENTS], telemetry, in_bulk=True)
    admin, outages, database = deployment.topics_admin(), deployment.outages(telemetry), deployment.database
    work = Meter(
        consumer,
        deployment.event_codec,
        deployment.usage_meter(),
        AccountCheck(deployment.unknown_accounts(), telemetry, outages, deployment.postponed_work(telemetry)),
        lambda: run_in_worker_thread(lambda: admin.incarnation(SESSION_EVENTS)),
        deployment.clock,
        telemetry,
        outages,
    )
    return Stage(
        tasks=[work.run],
        closes=[database.close],
        problems=[database.readiness_problems, consumer.readiness_problems],
        drain=lambda: work.drain(deployment.settings.time_limits.drain_seconds),
    )


def notify(deployment: SqlParts, telemetry: Telemetry) -> Stage:
    """The stage `notify`."""
    work = Notify(
        deployment.stored_mails(),
        deployment.mail_transport(),
        deployment.lease("notify"),
        deployment.encryption,
        deployment.clock,
        telemetry,
        deployment.outages(telemetry),
        deployment.postponed_work(telemetry),
        deployment.settings.public_url,
    )
    return Stage(
        tasks=[work.run],
        closes=[deployment.database.close],
        problems=[deployment.database.readiness_problems],
        drain=lambda: work.drain(deployment.settings.time_limits.drain_seconds),
    )
