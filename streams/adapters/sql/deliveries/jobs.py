"""Jobs in SQL. A portion and its progress are one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.deliveries.backfill import MissingDeliveries
from streams.adapters.sql.deliveries.ordered_query import filter_conditions
from streams.adapters.sql.deliveries.replays import CAN_BE_SENT, HAS_PAYLOAD, IS_DEAD, ChangedPortion, discard, replay
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.rows import require_known_fields, to_value
from streams.adapters.sql.tables.accounts import jobs
from streams.adapters.sql.tables.deliveries import deliveries, webhooks
from streams.adapters.sql.webhooks.account_limits import require_row_limit
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.backfill import Backfill
from streams.core.deliveries.delivery_state import Batch
from streams.core.deliveries.job import PORTION_SIZE, Job, JobKind
from streams.core.errors import ROW_ERRORS, Conflict
from streams.core.failed_work import FailedRows, read_rows
from streams.core.limits import MAX_UNFINISHED_JOBS_PER_ACCOUNT
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock

_TOO_MANY_MESSAGE = (
    "{count} jobs of the account are under way, and at most {limit} may be: wait for the end of one, or cancel it"
)


class SqlJobs:
    """`Jobs` in SQL."""

    def __init__(
        self, database: Database, clock: Clock, encryption: Encryption, *, portion_size: int = PORTION_SIZE
    ) -> None:
        self._database = database
        self._clock = clock
        self._portion_size = portion_size
        self._missing = MissingDeliveries(encryption)

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        async with self._database.transaction() as connection:
            await _lock_webhook(connection, job)
            if row := (await connection.execute(select(jobs).where(jobs.c.id == job.id))).one_or_none():
                return _to_job(row)
            if job.kind is JobKind.REPLAY:
                await _require_only_replay(connection, job)
            # The same request at the same moment does not make a second job.
            is_unfinished = jobs.c.finished_at.is_(None) & (jobs.c.id != job.id)
            await require_row_limit(
                connection, job.account_id, jobs, is_unfinished, MAX_UNFINISHED_JOBS_PER_ACCOUNT, _TOO_MANY_MESSAGE
            )
            job = replace(job, total=await _count(connection, job.filter))
            statement = insert(jobs).values(_to_row(job)).on_conflict_do_nothing().returning(jobs.c.id)
            if (await connection.execute(statement)).first() is None:
                # The same request at the same moment came first.
                return _to_job((await connection.execute(select(jobs).where(jobs.c.id == job.id))).one())
            await write_entry(connection, audit_entry)
        return job

    async def find(self, job_id: str) -> Job | None:
        """Find a job. Raises `Conflict` for a job of a newer release."""
        row = await self._database.row(select(jobs).where(jobs.c.id == job_id))
        if row is None:
            return None
        try:
            return _to_job(row)
        except ROW_ERRORS:
            raise Conflict(f"this release cannot read the job {job_id}: a newer one made it, and can do it") from None

    async def list_unfinished(self, after_id: str, failed_rows: FailedRows = None) -> Sequence[Job]:
        is_unfinished = jobs.c.finished_at.is_(None)
        next_account_id = select(func.min(jobs.c.account_id)).where(is_unfinished, jobs.c.account_id > after_id)
        query = select(jobs).where(is_unfinished, jobs.c.account_id == next_account_id.scalar_subquery())
        query = query.order_by(jobs.c.created_at, jobs.c.id).limit(MAX_UNFINISHED_JOBS_PER_ACCOUNT)
        return read_rows(await self._database.rows(query), _to_job, failed_rows)

    async def do_next_portion(self, job_id: str) -> Job:
        now = self._clock.now()
        async with self._database.transaction() as connection:
            job = await _lock(connection, job_id)
            assert job is not None
            if job.finished_at is not None:
                return job
            portion = await _do_portion(connection, job, now, self._portion_size)
            if portion.reached is not None:
                job = job.with_progress(len(portion.ids), portion.reached)
            elif job.has_pending_backfill:
                job = job.with_backfill_due()
            elif job.is_settled(now) and (remaining := await _count_remaining(connection, job, now)) is not None:
                job = job.to_finished(now, remaining)
            else:
                return job
            await _store(connection, job)
            return job

    async def store_backfill(self, job: Job, progress: Backfill, batch: Batch) -> Job:
        async with self._database.transaction() as connection:
            locked_row = await _lock(connection, job.id)
            assert locked_row is not None
            if locked_row.finished_at is not None or locked_row.backfill != job.backfill:
                return locked_row
            added_count = await self._missing.add(connection, batch)
            skipped_count = progress.skipped + len(batch.delivery_states) - added_count
            progress = replace(progress, added=progress.added + added_count, skipped=skipped_count)
            locked_row = replace(locked_row, backfill=progress)
            await _store(connection, locked_row)
            return locked_row

    async def cancel(self, job_id: str, audit_entry: AuditEntry) -> Job | None:
        async with self._database.transaction() as connection:
            # Waits for the end of the current batch.
            job = await _lock(connection, job_id)
            if job is None or job.finished_at is not None:
                return job
            job = replace(job, finished_at=self._clock.now(), cancelled=True)
            await _store(connection, job)
            await write_entry(connection, audit_entry)
            return job


async def _lock(connection: AsyncConnection, job_id: str) -> Job | None:
    row = (await connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update())).one_or_none()
    return _to_job(row) if row else None


async def _store(connection: AsyncConnection, job: Job) -> None:
    changes = {name: value for name, value in _to_row(job).items() if name in _PROGRESS_COLUMNS}
    if job.finished_at is not None:
        # An erasure does not look for learners here.
        changes["filter"] = {name: value for name, value in _to_row(job)["filter"].items() if name not in _SUBJECTS}
    await connection.execute(update(jobs).where(jobs.c.id == job.id).values(changes))


# The fields of a filter that may name a learner. A finished job does not need them.
_SUBJECTS = {"session_id", "learner_id", "metadata", "event_id", "ids"}
_PROGRESS_COLUMNS = {"total", "done", "failed", "reached", "finished_at", "cancelled", "backfill"}


async def _lock_webhook(connection: AsyncConnection, job: Job) -> None:
    # If two replays of a webhook start together, the second waits here, and finds the first.
    await connection.execute(select(webhooks.c.id).where(webhooks.c.id == job.filter.webhook_id).with_for_update())


async def _require_only_replay(connection: AsyncConnection, job: Job) -> None:
    unfinished_replays = (
        jobs.c.finished_at.is_(None),
        jobs.c.kind == JobKind.REPLAY,
        jobs.c.account_id == job.account_id,
    )
    for row in await connection.execute(select(jobs).where(*unfinished_replays)):
        # A newer release may have written the rest of the row.
        if row.filter.get("webhook_id") == job.filter.webhook_id:
            raise Conflict(f"a replay of this webhook is under way, {row.id}: wait for its end, or cancel it")


async def _do_portion(connection: AsyncConnection, job: Job, now: datetime, limit: int) -> ChangedPortion:
    """Change the next deliveries, oldest first; none at the end."""
    portion_filter = replace(job.filter, limit=limit)
    apply_action = discard if job.kind is JobKind.DISCARD else replay
    # Continue where the last portion ended: changed rows stay in the index until a vacuum.
    portion = await apply_action(connection, portion_filter, now, reached=job.reached)
    if not portion.ids and job.reached:
        # A delivery or payload that was recorded late may be older.
        portion = await apply_action(connection, portion_filter, now)
    return portion


async def _count_remaining(connection: AsyncConnection, job: Job, now: datetime) -> int | None:
    """The number of matching deliveries that the job can never change. None while it may still change another one."""
    is_changeable = IS_DEAD if job.kind is JobKind.DISCARD else CAN_BE_SENT
    if job.kind is not JobKind.DISCARD and job.has_given_up(now):
        is_changeable &= HAS_PAYLOAD
    # One query, because a payload may be stored between two queries.
    query = (
        select(func.count(), func.count().filter(is_changeable))
        .select_from(deliveries)
        .where(*filter_conditions(job.filter))
    )
    remaining, changeable_count = (await connection.execute(query)).one()
    return None if changeable_count else int(remaining)


async def _count(connection: AsyncConnection, delivery_filter: DeliveryFilter) -> int:
    query = select(func.count()).select_from(deliveries).where(*filter_conditions(delivery_filter))
    return int(await connection.scalar(query) or 0)


_FILTER = TypeAdapter(DeliveryFilter)
_BACKFILL = TypeAdapter(Backfill | None)


def _to_row(job: Job) -> dict[str, Any]:
    delivery_filter = _FILTER.dump_python(job.filter, mode="json", exclude={"after", "limit"}, exclude_none=True)
    return {**asdict(job), "filter": delivery_filter, "backfill": _BACKFILL.dump_python(job.backfill, mode="json")}


def _to_job(row: Any) -> Job:
    """The job of a row. Raises one of `ROW_ERRORS`: a filter with a missing field would match more deliveries."""
    require_known_fields("filter", DeliveryFilter, row.filter)
    require_known_fields("backfill", Backfill, row.backfill)
    delivery_filter, backfill = _FILTER.validate_python(row.filter), _BACKFILL.validate_python(row.backfill)
    return to_value(Job, row, kind=JobKind(row.kind), filter=delivery_filter, backfill=backfill)
