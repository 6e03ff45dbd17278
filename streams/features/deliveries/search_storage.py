"""Find deliveries in SQL, and count the matches of a filter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.ordered_query import ordered_query, subject_conditions
from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.tables.deliveries import attempts, deliveries, events, webhooks
from streams.core.accounts.account import DeliveryFilter, DeliverySummary
from streams.core.deliveries.delivery import State
from streams.core.events.event import EventSubjects
from streams.features.deliveries.search_rules import FacetCount, IdKind, LastAttempt


class SqlDeliverySearch(SqlStorage):
    """`DeliverySearch` in SQL."""

    async def count(self, delivery_filter: DeliveryFilter, limit: int) -> int:
        """How many match; `limit` if at least that many do."""
        ordered = ordered_query(delivery_filter)
        portion = ordered.select(deliveries.c.id).limit(limit).subquery()
        async with self._database.read_transaction() as connection:
            await ordered.prepare(connection)
            return int(await connection.scalar(select(func.count()).select_from(portion)) or 0)

    async def summary(self, delivery_filter: DeliveryFilter, limit: int) -> DeliverySummary:
        """The oldest matches in numbers: `limit` at most."""
        ordered, columns = ordered_query(delivery_filter, is_oldest_first=True), deliveries.c
        query = ordered.select(columns.webhook_id, columns.first_seen_at)
        # One more shows whether the count is capped.
        oldest = ordered.select_oldest(query, limit + 1).subquery()
        is_deleted = exists().where(webhooks.c.id == oldest.c.webhook_id, webhooks.c.deleted_at.is_not(None))
        figures = (
            func.count(),
            func.count(oldest.c.webhook_id.distinct()),
            func.min(oldest.c.first_seen_at),
            func.max(oldest.c.first_seen_at),
            func.count().filter(is_deleted),
        )
        async with self._database.read_transaction() as connection:
            await ordered.prepare(connection)
            summary = DeliverySummary(*(await connection.execute(select(*figures).select_from(oldest))).one())
        is_capped = summary.count > limit
        return replace(summary, count=min(summary.count, limit), is_capped=is_capped)

    async def facets(self, delivery_filter: DeliveryFilter, limit: int) -> Sequence[FacetCount]:
        """Counts of the newest `limit` matches."""
        columns, ordered = deliveries.c, ordered_query(delivery_filter)
        newest = (
            ordered.select(columns.state, columns.event_type, columns.webhook_id)
            .order_by(ordered.at.desc(), columns.id.desc())
            .limit(limit)
            .subquery()
        )
        group_columns = (newest.c.state, newest.c.event_type, newest.c.webhook_id)
        async with self._database.read_transaction() as connection:
            await ordered.prepare(connection)
            rows = await connection.execute(
                select(*group_columns, func.count().label("how_many")).group_by(*group_columns)
            )
            return [FacetCount(State(row.state), row.event_type, row.webhook_id, row.how_many) for row in rows]

    async def last_attempts(self, delivery_ids: Sequence[str]) -> Mapping[str, LastAttempt]:
        """The last attempt of each of these deliveries that has one."""
        attempt_columns = attempts.c
        columns = (
            attempt_columns.delivery_id,
            attempt_columns.status,
            attempt_columns.started_at,
            attempt_columns.ended_at,
            attempt_columns.outcome,
        )
        query = (
            select(*columns)
            .where(attempt_columns.delivery_id.in_(delivery_ids))
            .order_by(attempt_columns.generation, attempt_columns.number)
        )
        last_attempts: dict[str, LastAttempt] = {}
        for row in await self._database.rows(query):
            milliseconds = (row.ended_at - row.started_at).total_seconds() * 1000
            last_attempts[row.delivery_id] = LastAttempt(row.status, milliseconds, row.outcome)
        return last_attempts

    async def kind_of(self, account_id: str, text: str) -> IdKind | None:
        """The kind of object that this id names in an account."""
        async with self._database.read_transaction() as connection:
            for kind, condition in _id_conditions(account_id, text):
                if await _exists(connection, condition):
                    return kind
        return None


def _id_conditions(account_id: str, text: str) -> list[tuple[IdKind, ColumnElement[bool]]]:
    columns = events.c
    is_of_account = columns.account_id == account_id
    conditions = [
        (IdKind.DELIVERY, and_(deliveries.c.id == text, deliveries.c.account_id == account_id)),
        (IdKind.EVENT, and_(is_of_account, columns.event_id == text)),
    ]
    for kind in (IdKind.SESSION, IdKind.LEARNER, IdKind.PACKAGE, IdKind.DISPATCH):
        subjects = EventSubjects(**{f"{kind}_id": text})  # type: ignore[arg-type]
        conditions.append((kind, and_(is_of_account, *subject_conditions(subjects))))
    return conditions


async def _exists(connection: AsyncConnection, condition: Any) -> bool:
    return await connection.scalar(select(1).where(condition).limit(1)) is not None
