"""The stages `publish`, `maintain`, `meter` and `notify`, with their parts."""

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
from streams.tasks import run_until_first_ends
from streams.topics import METER_GROUP, SESSION_EVENTS


class Reconciled(NamedTuple):
    """The results of a reconciliation. `deleted_again` webhooks are deleted in SQL, as they were on the topic."""

    webhooks: ReconcileResult
    erasures: ErasureReconcileResult
    deleted_again: int


def _make_lease_keeper(stage: str, deployment: SqlParts, telemetry: Telemetry) -> LeaseKeeper:
    outages = deployment.outages(telemetry)
    return LeaseKeeper(deployment.lease(stage), deployment.encryption_check, telemetry, outages)


class PublishProcess:
    """The `publish` stage. Events and changes of webhooks wait for it."""

    def __init__(self, deployment: SqlParts, telemetry: Telemetry) -> None:
        self._outages = deployment.outages(telemetry)
        self._subscriptions = deployment.subscriptions_reader(telemetry)
        self._erasures = deployment.erasures_reader(telemetry)
        self._producer = deployment.producer(telemetry)
        self._database = deployment.database
        self._lease = _make_lease_keeper("publish", deployment, telemetry)
        self._postponed_work = postponed_work = deployment.postponed_work(telemetry)
        self._stage = Publish(
            deployment.outbox(),
            self._lease,
            self._producer,
            deployment.codec,
            telemetry,
            deployment.encryption_check,
            deployment.clock,
            new_incarnation=lambda: str(ULID()),
            outages=self._outages,
            postponed_work=postponed_work,
        )
        self._erasures_stage = PublishErasures(
            deployment.erasure_outbox(),
            deployment.erasure_history(),
            self._producer,
            telemetry,
            deployment.clock,
            new_incarnation=lambda: str(ULID()),
            outages=self._outages,
            postponed_work=postponed_work,
        )
        self._deployment, self._telemetry = deployment, telemetry
        self._due_reports = DueReports(
            deployment.stored_course_sessions(telemetry),
            deployment.clock,
            self._outages,
            postponed_work,
        )
        self._release_held = ReleaseHeld(
            deployment.held_deliveries(),
            deployment.recorder(telemetry),
            self._subscriptions,
            self._producer,
            deployment.codec,
            deployment.clock,
            telemetry,
            postponed_work,
            deployment.settings.release_rate,
        )

        self._probe_paused = ProbePaused(
            deployment.held_deliveries(),
            deployment.recorder(telemetry),
            self._subscriptions,
            self._producer,
            deployment.codec,
            deployment.clock,
            telemetry,
            postponed_work,
        )
        self._end_pulls = EndPulls(
            deployment.stored_webhooks(),
            deployment.held_deliveries(),
            self._subscriptions,
            deployment.clock,
            postponed_work,
            self._release_held.end_holds,
        )

    async def run(self) -> None:
        try:
            await run_until_first_ends(self._check_keys, self._hold_lease)
        finally:
            await self._producer.close()
            await self._database.close()

    async def _check_keys(self) -> None:
        await self._deployment.encryption_check.watch(self._outages)

    async def _hold_lease(self) -> None:
        # Read the topics only when no other process writes to them.
        await self._lease.hold(
            self._subscriptions.run,
            self._erasures.run,
            self._publish,
            self._publish_erasures,
            self._release_held_deliveries,
            self._send_probes,
            self._end_unacknowledged_pulls,
            self._send_outgoing_events,
            self._due_reports.report_scores,
            self._due_reports.report_ends,
        )

    async def _publish(self) -> None:
        self._telemetry.gauge("publisher", 1)
        await self._subscriptions.wait_until_read()
        await self._stage.run(self._subscriptions.table)

    async def _publish_erasures(self) -> None:
        await self._erasures.wait_until_read()
        await self._erasures_stage.run(self._erasures.table)

    async def _release_held_deliveries(self) -> None:
        await self._subscriptions.wait_until_ready()
        await self._release_held.run()

    async def _send_probes(self) -> None:
        await self._subscriptions.wait_until_ready()
        await self._probe_paused.run()

    async def _end_unacknowledged_pulls(self) -> None:
        await self._subscriptions.wait_until_ready()
        await self._end_pulls.run()

    async def _send_outgoing_events(self) -> None:
        outgoing_events = self._deployment.outgoing_events()
        await send_outgoing_events(
            outgoing_events, self._producer, self._telemetry, self._outages, self._postponed_work
        )

    async def reconcile(self, may_delete: ConfirmDeletion) -> Reconciled:
        """Make `subscriptions` match SQL, and merge `erasures` with SQL. Runs once, as the only publisher.

        Webhooks whose deletion only the topic knows are deleted in SQL, too.
        """
        results: list[Reconciled] = []

        async def reconcile_once() -> None:
            await self._erasures.wait_until_read()
            erasures = await self._erasures_stage.reconcile(self._erasures.table)
            await self._subscriptions.wait_until_read()
            table = self._subscriptions.table
            # First, because the stage raises the version of every webhook above that of its tombstone.
            deleted_count = await self._deployment.stored_webhooks().delete_again(table.tombstones or {})
            results.append(Reconciled(await self._stage.reconcile(table, may_delete), erasures, deleted_count))

        try:
            await self._lease.hold(self._subscriptions.run, self._erasures.run, reconcile_once)
        finally:
            await self._producer.close()
            await self._database.close()
        return results[0]

    async def drain(self) -> None:
        return

    def readiness_problems(self) -> list[str]:
        return [
            *self._deployment.encryption_check.problems(),
            *self._database.readiness_problems(),
            *self._producer.readiness_problems(),
        ]


class MaintainProcess:
    """The `maintain` stage. No event or webhook change waits for it."""

    def __init__(self, deployment: SqlParts, telemetry: Telemetry) -> None:
        self._deployment, self._telemetry = deployment, telemetry
        self._outages = deployment.outages(telemetry)
        self._lease = _make_lease_keeper("maintain", deployment, telemetry)
        self._postponed_work = deployment.postponed_work(telemetry)
        self._jobs = deployment.jobs()
        self._backfill = HistoryBackfill(
            self._jobs,
            deployment.stored_webhooks(),
            deployment.event_history(),
            deployment.event_codec,
            deployment.clock,
            self._outages,
        )

    async def run(self) -> None:
        try:
            await run_until_first_ends(self._check_keys, self._hold_lease)
        finally:
            await self._deployment.database.close()

    async def _check_keys(self) -> None:
        await self._deployment.encryption_check.watch(self._outages)

    async def _hold_lease(self) -> None:
        await self._lease.hold(
            self._run_jobs, self._finish_erasures, self._prune, self._send_overdue_again, self._expose_backlog
        )

    async def _run_jobs(self) -> None:
        await run_jobs(self._jobs, self._backfill, self._telemetry, self._postponed_work)

    async def _finish_erasures(self) -> None:
        deployment = self._deployment
        await finish_erasures(deployment.erasures(), deployment.clock, self._telemetry, self._postponed_work)

    async def _expose_backlog(self) -> None:
        deployment = self._deployment
        backlogs, lags = deployment.backlogs(), deployment.group_lags()
        await expose_backlog(backlogs, lags, deployment.clock, self._telemetry, self._postponed_work)

    async def _send_overdue_again(self) -> None:
        deployment, longest_wait = self._deployment, self._deployment.settings.retry_schedule.tiers[-1].wait
        overdue, lags = deployment.overdue_retries(), deployment.group_lags()
        await resend_overdue(overdue, lags, longest_wait, deployment.clock, self._telemetry, self._postponed_work)

    async def _prune(self) -> None:
        deployment = self._deployment
        await prune_regularly(
            deployment.pruning(),
            deployment.retention_by_kind(),
            deployment.clock,
            self._telemetry,
            self._postponed_work,
        )

    async def drain(self) -> None:
        return

    def readiness_problems(self) -> list[str]:
        return [*self._deployment.encryption_check.problems(), *self._deployment.database.readiness_problems()]


class MeterProcess:
    """The `meter` stage."""

    def __init__(self, deployment: SqlParts, telemetry: Telemetry) -> None:
        self._drain_seconds = deployment.settings.time_limits.drain_seconds
        self._consumer = deployment.consumer(METER_GROUP, [SESSION_EVENTS], telemetry, in_bulk=True)
        self._database = deployment.database
        admin, outages = deployment.topics_admin(), deployment.outages(telemetry)
        self._stage = Meter(
            self._consumer,
            deployment.event_codec,
            deployment.usage_meter(),
            AccountCheck(deployment.unknown_accounts(), telemetry, outages, deployment.postponed_work(telemetry)),
            lambda: run_in_worker_thread(lambda: admin.incarnation(SESSION_EVENTS)),
            deployment.clock,
            telemetry,
            outages,
        )

    async def run(self) -> None:
        try:
            await self._stage.run()
        finally:
            await self._database.close()

    async def drain(self) -> None:
        await self._stage.drain(self._drain_seconds)

    def readiness_problems(self) -> list[str]:
        return [*self._database.readiness_problems(), *self._consumer.readiness_problems()]


class NotifyProcess:
    """The `notify` stage."""

    def __init__(self, deployment: SqlParts, telemetry: Telemetry) -> None:
        self._drain_seconds = deployment.settings.time_limits.drain_seconds
        self._database = deployment.database
        self._stage = Notify(
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

    async def run(self) -> None:
        try:
            await self._stage.run()
        finally:
            await self._database.close()

    async def drain(self) -> None:
        await self._stage.drain(self._drain_seconds)

    def readiness_problems(self) -> list[str]:
        return self._database.readiness_problems()
