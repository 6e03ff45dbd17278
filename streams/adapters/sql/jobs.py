"""Jobs in SQL. A portion and its progress are one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.account_tables import jobs
from streams.adapters.sql.audit import note
from streams.adapters.sql.database import Database
from streams.adapters.sql.delivery_log import matching
from streams.adapters.sql.replays import discard, replay
from streams.adapters.sql.tables import deliveries
from streams.core.account import DeliveryFilter
from streams.core.audit import AuditEntry
from streams.core.delivery import State
from streams.core.job import PORTION, Job, JobKind
from streams.ports import Clock

_DO = {JobKind.RETRY: replay, JobKind.DISCARD: discard}


class SqlJobs:
    """`Jobs` in SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        async with self._database.transaction() as connection:
            job = replace(job, total=await _count(connection, job.filter))
            await connection.execute(insert(jobs).values({**asdict(job), "filter": _to_json(job.filter)}))
            await note(connection, audit_entry)
        return job

    async def find(self, job_id: str) -> Job | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).one_or_none()
            return _job(row) if row else None

    async def unfinished(self) -> Sequence[Job]:
        query = select(jobs).where(jobs.c.finished_at.is_(None)).order_by(jobs.c.created_at, jobs.c.id)
        async with self._database.reading() as connection:
            return [_job(row) for row in await connection.execute(query)]

    async def advance(self, job_id: str) -> Job:
        this, now = jobs.c.id == job_id, self._clock.now()
        async with self._database.transaction() as connection:
            job = _job((await connection.execute(select(jobs).where(this).with_for_update())).one())
            if job.finished_at is not None:
                return job
            # Go on where the last portion ended: finished rows stay in the index until a vacuum.
            wanted = replace(job.filter, limit=PORTION)
            ids = await _DO[job.kind](connection, replace(wanted, since=job.reached or wanted.since), now)
            if not ids and job.reached:
                # A delivery that was recorded late may be older.
                ids = await _DO[job.kind](connection, wanted, now)
            job = replace(job, done=job.done + len(ids))
            if ids:
                seen = select(func.max(deliveries.c.first_seen_at)).where(deliveries.c.id.in_(ids))
                job = replace(job, reached=await connection.scalar(seen))
            else:
                left = await _count(connection, job.filter)
                if left and not job.gives_up(now):
                    return job
                job = replace(job, finished_at=now, failed=left)
            values = {
                "done": job.done,
                "failed": job.failed,
                "reached": job.reached,
                "finished_at": job.finished_at,
            }
            await connection.execute(update(jobs).where(this).values(values))
            return job


async def _count(connection: AsyncConnection, wanted: DeliveryFilter) -> int:
    return int(await connection.scalar(select(func.count()).select_from(deliveries).where(*matching(wanted))) or 0)


_TIMES = {"since", "until", "changed_until"}


def _to_json(wanted: DeliveryFilter) -> dict[str, Any]:
    named = {part.name: getattr(wanted, part.name) for part in fields(wanted) if part.name not in ("after", "limit")}
    present = {name: value for name, value in named.items() if value is not None}
    return {name: value.isoformat() if name in _TIMES else value for name, value in present.items()}


def _from_json(wanted: dict[str, Any]) -> DeliveryFilter:
    times = {name: datetime.fromisoformat(value) for name, value in wanted.items() if name in _TIMES}
    return DeliveryFilter(**{**wanted, **times, "state": State(wanted["state"])})


def _job(row: Any) -> Job:
    return Job(
        id=row.id,
        account_id=row.account_id,
        kind=JobKind(row.kind),
        filter=_from_json(row.filter),
        created_at=row.created_at,
        total=row.total,
        done=row.done,
        failed=row.failed,
        finished_at=row.finished_at,
        reached=row.reached,
    )
