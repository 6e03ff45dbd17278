"""Store what happened: attempts, standings, bodies; count health and pause by compare-and-set."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.bulk import Bulk
from streams.adapters.sql.database import Database
from streams.adapters.sql.tables import attempts, bodies, deliveries, health, mails, pauses, webhooks
from streams.adapters.sql.versions import make_dirty, version_after
from streams.core.attempt import Attempt
from streams.core.delivery import State
from streams.core.health import Attempted, Health
from streams.core.standing import Batch, Standing
from streams.core.webhook import Status
from streams.ports import Clock, Report


class SqlRecorder:
    """A `Recorder`; `new_id` mints the ids of pauses and mails."""

    def __init__(self, database: Database, clock: Clock, report: Report, new_id: Callable[[str], str]) -> None:
        self._database = database
        self._clock = clock
        self._report = report
        self._new_id = new_id
        self._insert = sqlite_insert if database.is_sqlite else postgres_insert
        self._attempts = Bulk(attempts, is_sqlite=database.is_sqlite)
        self._bodies = Bulk(bodies, is_sqlite=database.is_sqlite)
        self._deliveries = Bulk(deliveries, is_sqlite=database.is_sqlite)
        self._raise = _raise_only(self._deliveries.statement)

    async def record(self, batch: Batch) -> None:
        """One transaction: lock → new attempts → standings and bodies → health → pauses."""
        paused: list[dict[str, str]] = []
        async with self._database.transaction() as connection:
            tried = sorted({attempt.webhook_id for attempt in batch.attempts})
            epochs = await self._lock(connection, tried)
            new = await self._insert_attempts(connection, batch.attempts)
            await self._insert_bodies(connection, batch)
            await self._raise_standings(connection, batch.standings)
            if new:
                paused = await self._count(connection, batch, new, epochs)
        for pause in paused:
            self._report.count("webhooks_paused_total", reason=pause["reason"])
            self._report.tell("webhook paused", **pause)

    async def _lock(self, connection: AsyncConnection, webhook_ids: Sequence[str]) -> dict[str, int]:
        """The current health epochs; their rows are locked in id order, so two recorders cannot wait in a circle."""
        if not webhook_ids:
            return {}
        query = (
            select(webhooks.c.id, webhooks.c.health_epoch)
            .where(webhooks.c.id.in_(webhook_ids))
            .order_by(webhooks.c.id)
            .with_for_update()
        )
        return {row.id: row.health_epoch for row in await connection.execute(query)}

    async def _insert_attempts(self, connection: AsyncConnection, made: Sequence[Attempt]) -> set[str]:
        if not made:
            return set()
        first = {attempt.id: _attempt_row(attempt) for attempt in reversed(made)}
        statement = self._attempts.statement.on_conflict_do_nothing().returning(attempts.c.id)
        result = await connection.execute(statement, self._attempts.parameters(list(first.values())))
        return {row.id for row in result}

    async def _insert_bodies(self, connection: AsyncConnection, batch: Batch) -> None:
        rows = [
            {"account_id": key[0], "event_id": key[1], "body": body, "trace_parent": batch.traces.get(key)}
            for key, body in sorted(batch.bodies.items())
        ]
        if rows:
            await connection.execute(self._bodies.statement.on_conflict_do_nothing(), self._bodies.parameters(rows))

    async def _raise_standings(self, connection: AsyncConnection, standings: Sequence[Standing]) -> None:
        rows = [_standing_row(standing) for standing in sorted(standings, key=attrgetter("delivery_id"))]
        if rows:
            await connection.execute(self._raise, self._deliveries.parameters(rows))

    # -- health -----------------------------------------------------------------------------------------------

    async def _count(
        self, connection: AsyncConnection, batch: Batch, new: Collection[str], epochs: Mapping[str, int]
    ) -> list[dict[str, str]]:
        by_webhook: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in batch.attempts:
            if attempt.id in new and attempt.webhook_id in epochs:
                by_webhook[attempt.webhook_id].append(attempt)
        known = await self._healths(connection, sorted(by_webhook), epochs)
        paused = []
        changed = []
        for webhook_id, made in sorted(by_webhook.items()):
            before = known[webhook_id]
            after = before.after(map(_attempted, made), own_network_is_down=batch.own_network_is_down)
            if after != before:
                changed.append({"webhook_id": webhook_id, **_health_row(after)})
            if after.pause is not None and (pause := await self._pause(connection, webhook_id, after)):
                paused.append(pause)
        if changed:
            statement = self._insert(health)
            columns = [column for column in health.c if column.name != "webhook_id"]
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[health.c.webhook_id],
                    set_={column.name: statement.excluded[column.name] for column in columns},
                ),
                changed,
            )
        return paused

    async def _healths(
        self, connection: AsyncConnection, webhook_ids: Sequence[str], epochs: Mapping[str, int]
    ) -> dict[str, Health]:
        rows = await connection.execute(select(health).where(health.c.webhook_id.in_(webhook_ids)))
        stored = {
            row.webhook_id: Health(row.epoch, row.failures, row.first_failed_at, row.last_failed_at) for row in rows
        }
        return {
            webhook_id: stored[webhook_id]
            if webhook_id in stored and stored[webhook_id].epoch == epochs[webhook_id]
            else Health(epochs[webhook_id])
            for webhook_id in webhook_ids
        }

    async def _pause(self, connection: AsyncConnection, webhook_id: str, seen: Health) -> dict[str, str] | None:
        """Pause if it is still active in the same epoch; the mail is owed in the same transaction."""
        now = self._clock.now()
        pause_id, reason = self._new_id("pause"), str(seen.pause)
        this = (
            (webhooks.c.id == webhook_id)
            & (webhooks.c.status == Status.ACTIVE)
            & (webhooks.c.health_epoch == seen.epoch)
            & webhooks.c.deleted_at.is_(None)
        )
        row = (await connection.execute(select(webhooks).where(this))).one_or_none()
        if row is None:
            return None
        version = version_after(row.version, now)
        await connection.execute(
            update(webhooks)
            .where(this)
            .values(status=Status.PAUSED, pause_id=pause_id, pause_reason=reason, paused_at=now, version=version)
        )
        await make_dirty(connection, self._insert, webhook_id, version)
        await connection.execute(
            pauses.insert().values(id=pause_id, webhook_id=webhook_id, reason=reason, began_at=now)
        )
        await connection.execute(
            mails.insert().values(
                id=self._new_id("mail"),
                account_id=row.account_id,
                webhook_id=webhook_id,
                kind="paused",
                pause_id=pause_id,
                created_at=now,
            )
        )
        return {
            "webhook_id": webhook_id,
            "account_id": row.account_id,
            "pause_id": pause_id,
            "reason": reason,
        }


def _raise_only(statement: Any) -> Any:
    """An insert that changes a row that is there only where the new state is the higher one."""
    new, known = statement.excluded, deliveries.c
    same_generation = new.generation == known.generation
    higher = or_(
        new.generation > known.generation,
        and_(same_generation, new.step > known.step),
        and_(same_generation, new.state == State.DELIVERED),
    )
    # The same rule as `Standing.supersedes`.
    wins = and_(higher, ~and_(same_generation, known.state == State.DELIVERED))
    keep = {"id", "account_id", "event_id", "event_type", "webhook_id", "first_seen_at"}
    changes = {column.name: new[column.name] for column in known if column.name not in keep}
    return statement.on_conflict_do_update(index_elements=[known.id], set_=changes, where=wins)


_STANDING = [field.name for field in fields(Standing)]
_STANDING_ROW = ["id" if name == "delivery_id" else name for name in _STANDING]
_VALUES = attrgetter(*_STANDING)


def _standing_row(standing: Standing) -> dict[str, Any]:
    return dict(zip(_STANDING_ROW, _VALUES(standing), strict=True))


def _attempted(attempt: Attempt) -> Attempted:
    return Attempted(
        health_epoch=attempt.health_epoch,
        trigger=attempt.trigger,
        target=attempt.target,
        kind=attempt.kind,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
    )


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "delivery_id": attempt.delivery_id,
        "webhook_id": attempt.webhook_id,
        "generation": attempt.generation,
        "number": attempt.number,
        "trigger": attempt.trigger,
        "target": attempt.target,
        "url": attempt.url,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "request_headers": dict(attempt.request_headers),
        "status": attempt.status,
        "answer_headers": dict(attempt.answer_headers),
        "answer": attempt.answer,
        "outcome": attempt.kind,
        "words": attempt.words,
        "followed": attempt.followed,
        "tier": attempt.tier,
    }


def _health_row(state: Health) -> dict[str, int | datetime | None]:
    return {
        "epoch": state.epoch,
        "failures": state.failures,
        "first_failed_at": state.first_failed_at,
        "last_failed_at": state.last_failed_at,
    }
