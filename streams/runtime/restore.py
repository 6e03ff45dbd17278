"""Restore the database from a dump: check what fits, then do each step, from where an earlier run ended."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from streams.adapters.driver_queries import libpq_url
from streams.adapters.dumps.dump_file import FACT_TABLES, Dump, OnProgress, open_dump, to_facts
from streams.adapters.kafka.admin.groups_admin import GroupsAdmin
from streams.adapters.sql.engine.migrate import upgrade
from streams.adapters.sql.engine.schema_check import is_known, revisions
from streams.adapters.sql.restores import SqlRestores
from streams.adapters.threads import run_in_daemon_thread, run_in_worker_thread
from streams.core.encryption import WRONG_KEYS_MESSAGE
from streams.core.errors import Conflict, FieldError, Invalid, Misconfigured
from streams.core.restore import (
    RestoreProgress,
    RestoreScope,
    RestoreStep,
    TopicsFacts,
    conflict,
    remaining_steps,
    retention_note,
    since_problem,
)
from streams.core.times import format_time
from streams.core.webhooks.webhook import Webhook
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.sql_stages import Reconciled, reconcile_topics
from streams.runtime.startup import prepare_stage
from streams.runtime.startup_checks import StartupChecks
from streams.tasks import run_until_first_ends
from streams.telemetry import PrometheusTelemetry
from streams.topics import ERASURES, METER_GROUP, RECORD_GROUP, RECORD_INPUTS, RETENTION, SESSION_EVENTS, SUBSCRIPTIONS

POLL_SECONDS = 0.5
# The leases and group members of a killed run end within a minute.
KILLED_RUN_SECONDS = 60.0

Result = TypeVar("Result")
# Whether these webhooks, which the database does not know, may be deleted from the topic.
MayDelete = Callable[[Sequence[Webhook]], bool]


async def reconcile(deployment: SqlDeployment, may_delete: MayDelete) -> Reconciled:
    """Run one reconciliation. `may_delete` may ask a person: it runs on a thread."""

    async def ask(unknown_webhooks: Sequence[Webhook]) -> bool:
        return await run_in_daemon_thread(lambda: may_delete(unknown_webhooks))

    return await reconcile_topics(deployment, PrometheusTelemetry("publish"), ask)


@dataclass(frozen=True)
class CheckedRestore:
    """A restore that may run: its objects, its progress, and the records that it cannot bring back."""

    scope: RestoreScope
    progress: RestoreProgress | None
    note: str | None


class Restore:
    """One restore. Without `dump_path` the database is restored already, and the other steps follow.

    Each step may be repeated. The last finished step is stored in the database, so that a second run continues after
    it.
    """

    def __init__(self, dump_path: Path | None, since: datetime) -> None:
        self._deployment = deployment = self._new_deployment()
        self._dump_path = dump_path
        self._since = since.astimezone(UTC)
        self._started_at = deployment.clock.now()
        self._database = SqlRestores(deployment.database_url, deployment.settings.is_behind_pooler)
        self._groups = GroupsAdmin(deployment.kafka, deployment.settings.topic_prefix)
        self._progress: RestoreProgress | None = None

    def check(self, on_progress: OnProgress, on_wait: Callable[[str], None]) -> CheckedRestore:
        """Check all that a restore needs, and change nothing. `on_progress` shows how much of the dump is read.

        After a killed run, it waits until Kafka and the database have noticed the kill; `on_wait` takes the reason.
        Raises `Conflict`, `Invalid` and `Misconfigured`, each with what to do.
        """
        deployment = self._deployment
        topics = (SESSION_EVENTS, SUBSCRIPTIONS, ERASURES, *RECORD_INPUTS)
        StartupChecks(topics).wait_or_raise(deployment)
        self._progress = progress = self._database.find_progress(self._dump_name, self._since)
        if progress is None:
            self._require_stopped_stages()
            self._require_fitting_dump(on_progress)
        elif remaining_steps(progress):
            self._wait_for_stopped_stages(on_wait)
        prefix = deployment.settings.topic_prefix
        scope = RestoreScope(
            dump=self._dump_name or None,
            database=libpq_url(deployment.database_url.render_as_string(hide_password=True)),
            revision=revisions()[-1],
            group=prefix + RECORD_GROUP,
            topics=[prefix + name for name in RECORD_INPUTS],
            compacted_topics=[prefix + name for name in (SUBSCRIPTIONS, ERASURES)],
            since=self._since,
            records=self._groups.count_after_rewind(RECORD_GROUP, RECORD_INPUTS, self._since),
        )
        return CheckedRestore(scope, progress, retention_note(self._since, self._started_at, RETENTION))

    def perform(self, step: RestoreStep, on_progress: OnProgress, may_delete: MayDelete) -> None:
        """Do one step, and store that it is done. `on_progress` takes the finished and the total amount of work."""
        counts: Mapping[str, int] = {}
        match step:
            case RestoreStep.RESTORE:
                self._restore(on_progress)
            case RestoreStep.REWIND:
                counts = self._rewind()
            case RestoreStep.RECONCILE:
                counts = self._reconcile(may_delete)
            case RestoreStep.ERASE:
                asyncio.run(self._erase(on_progress))
            case RestoreStep.RECORD:
                asyncio.run(self._record(on_progress))
        started = self._progress or RestoreProgress(
            dump=self._dump_name, since=self._since, started_at=self._started_at, last_step=step
        )
        self._progress = started.after(step, **counts)
        self._database.save_progress(self._progress)

    def count_results(self) -> Mapping[str, int]:
        """The results of the restore, by name."""
        assert self._progress, "nothing is done yet"
        return {
            **self._progress.counts,
            **self._database.count_results(self._progress),
            "events": self._count_unmetered_events(),
        }

    @cached_property
    def _dump_name(self) -> str:
        """The text by which a second run recognizes the dump; empty without a dump. Raises `Invalid`."""
        if self._dump_path is None:
            return ""
        try:
            stat = self._dump_path.stat()
        except OSError as error:
            raise Invalid(FieldError("--dump", f"{self._dump_path}: {error.strerror}")) from None
        changed_at = format_time(datetime.fromtimestamp(stat.st_mtime, UTC))
        return f"{self._dump_path.name} ({stat.st_size} bytes, written {changed_at})"

    @cached_property
    def _dump(self) -> Dump | None:
        return open_dump(self._dump_path, self._deployment.database_url) if self._dump_path else None

    # -- checks ------------------------------------------------------------------------------------------------------

    def _wait_for_stopped_stages(self, on_wait: Callable[[str], None]) -> None:
        deadline, is_reported = time.monotonic() + KILLED_RUN_SECONDS, False
        while True:
            try:
                self._require_stopped_stages()
                return
            except Conflict as error:
                if time.monotonic() >= deadline:
                    raise
                if not is_reported:
                    on_wait(str(error))
                is_reported = True
            time.sleep(POLL_SECONDS)

    def _require_stopped_stages(self) -> None:
        prefix = self._deployment.settings.topic_prefix
        for group in (METER_GROUP, RECORD_GROUP):
            if self._deployment.client_ids(prefix + group)():
                raise Conflict(
                    f"the group {prefix}{group} has members: stop every process of {group} first; one that was killed, "
                    "or has a fixed name, stays in it for 45 seconds"
                )
        self._database.require_unused(self._deployment.clock.now())

    def _require_fitting_dump(self, on_progress: OnProgress) -> None:
        dump, source = self._dump, "--dump" if self._dump_path else "DATABASE_URL"
        facts = to_facts((dump or self._database).fact_rows(FACT_TABLES))
        if facts.revision is None:
            raise Invalid(FieldError(source, "is not of this system: it has no table alembic_version"))
        if not is_known(facts.revision):
            message = f"a newer release made it (schema {facts.revision}, not {revisions()[-1]}): run that release"
            raise Invalid(FieldError(source, message))
        if facts.check is not None and not self._deployment.encryption.is_valid_check_text(facts.check):
            raise Misconfigured(f"{WRONG_KEYS_MESSAGE}. The dump needs the keys of its time")
        if reason := conflict(facts, asyncio.run(self._topics_facts())):
            raise Conflict(reason)
        if problem := since_problem(facts, self._since):
            raise Invalid(FieldError("--since", problem))
        if dump:
            dump.verify(on_progress)

    async def _topics_facts(self) -> TopicsFacts:
        reader = self._deployment.subscriptions_reader(PrometheusTelemetry("publish"))
        await run_until_first_ends(reader.run, reader.wait_until_read)
        sentinel = reader.table.sentinel
        return TopicsFacts(
            check=sentinel.check if sentinel else None,
            incarnation=await run_in_worker_thread(partial(self._groups.incarnation, SESSION_EVENTS)),
            ends=await run_in_worker_thread(self._event_ends),
        )

    # -- steps -------------------------------------------------------------------------------------------------------

    def _restore(self, on_progress: OnProgress) -> None:
        if self._dump:
            self._dump.restore(on_progress)
        upgrade(self._deployment.database_url)
        self._database.forget_leases()

    def _rewind(self) -> Mapping[str, int]:
        self._groups.rewind(RECORD_GROUP, RECORD_INPUTS, self._since)
        offsets = self._groups.offsets(RECORD_GROUP, RECORD_INPUTS).values()
        return {"records": sum(partition.end - partition.committed for partition in offsets)}

    def _reconcile(self, may_delete: MayDelete) -> Mapping[str, int]:
        done = asyncio.run(reconcile(self._new_deployment(), may_delete))
        return {"webhooks_deleted": done.webhooks.deleted}

    async def _erase(self, on_progress: OnProgress) -> None:
        """Finish running erasures, then erase the learners whose data the dump brought back."""
        deployment = self._new_deployment()
        erasures, service = deployment.erasures(), deployment.learners()
        try:
            for unfinished_erasure in await erasures.list_unfinished(deployment.clock.now()):
                await service.finish(unfinished_erasure)
            learners = await erasures.list_restored()
            for number, learner in enumerate(learners, start=1):
                await service.finish(await erasures.start_again(learner, "restore"))
                on_progress(number, len(learners))
        finally:
            await deployment.database.close()

    async def _record(self, on_progress: OnProgress) -> None:
        """Run `record` until it has committed every record that is there now."""
        ends = {at: offsets.end for at, offsets in self._groups.offsets(RECORD_GROUP, RECORD_INPUTS).items()}

        def count_remaining() -> int:
            committed = self._groups.offsets(RECORD_GROUP, RECORD_INPUTS)
            return sum(max(0, end - committed[at].committed) for at, end in ends.items())

        total = count_remaining()
        if not total:
            # A member that leaves while it joins would stay in the group for a session timeout.
            return
        telemetry = PrometheusTelemetry("record")
        record = await prepare_stage("record", self._new_deployment(), telemetry, on_wait=lambda reason: None)

        async def drain_at_the_end() -> None:
            while remaining := await run_in_worker_thread(count_remaining):
                on_progress(total - remaining, total)
                await asyncio.sleep(POLL_SECONDS)
            await record.drain()

        await run_until_first_ends(record.run, drain_at_the_end)

    def _event_ends(self) -> Mapping[int, int]:
        """The end of each partition of `session-events`."""
        offsets = self._groups.offsets(RECORD_GROUP, [SESSION_EVENTS])
        return {partition.number: partition_offsets.end for partition, partition_offsets in offsets.items()}

    def _count_unmetered_events(self) -> int:
        """How many events `meter` will read."""
        incarnation = self._groups.incarnation(SESSION_EVENTS)
        positions = to_facts(self._database.fact_rows(FACT_TABLES)).positions
        starts = {
            number: position.next_offset
            for number, position in positions.items()
            if position.incarnation == incarnation
        }
        return sum(max(0, end - starts.get(number, 0)) for number, end in self._event_ends().items())

    @staticmethod
    def _new_deployment() -> SqlDeployment:
        """A deployment whose parts are not used yet: each step closes its own.

        No static group membership: Kafka would wait for the members' return after this command ends.
        """
        deployment = SqlDeployment.from_environment()
        if not deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            raise Misconfigured(
                "KAFKA_BOOTSTRAP_SERVERS is not set: the embedded broker keeps nothing to catch up with. Copy SQLite's "
                "file back while `up` is stopped"
            )
        return replace(deployment, settings=deployment.settings.model_copy(update={"instance_id": None}))
