"""Count launches exactly once, in one transaction with the meter's positions, notices and events to send."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database, SqlStorage
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.usage import (
    counted_launches,
    usage_details,
    usage_months,
    usage_notices,
    usage_positions,
)
from streams.core.accounts.usage import (
    Launch,
    LaunchBatch,
    NewLaunches,
    UsageCursor,
    UsageDetail,
    UsageMonth,
    UsageNotice,
    crossed_thresholds,
    launches_by_key,
    month_of,
    reached_thresholds,
    threshold_event,
)
from streams.core.deliveries.backfill import OffsetRange
from streams.ports.kafka import Codec


class SqlUsageMeter:
    """`UsageMeter` in SQL. `codec` encodes the events to send."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._events = OutgoingEventWriter(codec)

    async def positions(self, incarnation: str, partitions: Sequence[int]) -> Mapping[int, int]:
        columns = usage_positions.c
        rows = [
            {"partition": partition, "incarnation": incarnation, "next_offset": 0} for partition in sorted(partitions)
        ]
        is_other_topic = usage_positions.c.partition.in_(partitions) & (columns.incarnation != incarnation)
        async with self._database.transaction() as connection:
            await _POSITIONS.execute(connection, rows)
            await connection.execute(
                update(usage_positions).where(is_other_topic).values(incarnation=incarnation, next_offset=0)
            )
            stored_rows = await connection.execute(select(usage_positions).where(columns.partition.in_(partitions)))
            return {row.partition: row.next_offset for row in stored_rows}

    async def count(self, incarnation: str, moves: Sequence[OffsetRange], batch: LaunchBatch) -> NewLaunches | None:
        async with self._database.transaction() as connection:
            for move in sorted(moves):
                if not await _move_position(connection, incarnation, move):
                    await connection.rollback()
                    return None
            new_launches = await self._insert_launches(connection, batch.launches)
            late_launches = await self._insert_launches(connection, batch.late_launches)
            if new_launches or late_launches:
                await self._add(connection, new_launches, late_launches)
            return NewLaunches(len(new_launches), len(late_launches))

    async def check_limit(self, account_id: str, limit: int | None, now: datetime) -> None:
        """Send the notices for the thresholds of a changed limit that this month's launches have reached."""
        columns, month = usage_months.c, month_of(now)
        async with self._database.transaction() as connection:
            query = select(columns.launches).where(columns.account_id == account_id, columns.month == month)
            launches = await connection.scalar(query) or 0
            notices = reached_thresholds(account_id, month, limit, launches, now)
            await self._store_notices(connection, notices)

    async def _insert_launches(self, connection: AsyncConnection, launches: Sequence[Launch]) -> list[Launch]:
        """Insert launches. Returns those that were not counted before, in their order."""
        launch_by_key = {(launch.account_id, launch.event_id): launch for launch in reversed(launches)}
        if not launch_by_key:
            return []
        # Always in the same order, so that two owners do not wait for each other.
        rows = [
            {"account_id": launch.account_id, "event_id": launch.event_id, "month": launch.month}
            for _, launch in sorted(launch_by_key.items())
        ]
        new_keys = {tuple(row) for row in await _LAUNCHES.execute(connection, rows)}
        ordered_keys = {(launch.account_id, launch.event_id): launch for launch in launches}
        return [launch_by_key[name] for name in ordered_keys if name in new_keys]

    async def _add(
        self, connection: AsyncConnection, new_launches: Sequence[Launch], late_launches: Sequence[Launch]
    ) -> None:
        by_month: dict[tuple[str, str], list[Launch]] = {}
        for launch in new_launches:
            by_month.setdefault((launch.account_id, launch.month), []).append(launch)
        late_by_month = Counter((launch.account_id, launch.month) for launch in late_launches)
        months = [
            {
                "account_id": key[0],
                "month": key[1],
                "launches": len(by_month.get(key, ())),
                "late_launches": late_by_month[key],
            }
            for key in sorted(by_month.keys() | late_by_month.keys())
        ]
        details = [
            {**key._asdict(), "launches": number} for key, number in sorted(launches_by_key(new_launches).items())
        ]
        totals = {(row.account_id, row.month): row.launches for row in await _MONTHS.execute(connection, months)}
        if not new_launches:
            return
        await _DETAILS.execute(connection, details)
        limits = await _plan_limits(connection, {account_id for account_id, _ in by_month})
        notices = [
            notice
            for key, month_launches in sorted(by_month.items())
            for notice in crossed_thresholds(limits.get(key[0]), totals[key] - len(month_launches), month_launches)
        ]
        await self._store_notices(connection, notices)

    async def _store_notices(self, connection: AsyncConnection, notices: Sequence[UsageNotice]) -> None:
        """Store the new notices, each with the event that reports it."""
        if not notices:
            return
        rows = [
            {
                "account_id": notice.account_id,
                "month": notice.month,
                "percent": notice.percent,
                "launches": notice.launches,
                "plan_limit": notice.limit,
                "at": notice.at,
            }
            for notice in notices
        ]
        new_keys = {tuple(row) for row in await _NOTICES.execute(connection, rows)}
        events = [
            threshold_event(notice)
            for notice in notices
            if (notice.account_id, notice.month, notice.percent) in new_keys
        ]
        await self._events.store(connection, [(event, event.occurred_at) for event in events])


def _add_on_conflict(statement: Any) -> Any:
    """An insert that adds to the stored numbers."""
    table = statement.table
    key = list(table.primary_key.columns)
    numbers = {column.name: column + statement.excluded[column.name] for column in table.c if column not in set(key)}
    return statement.on_conflict_do_update(index_elements=key, set_=numbers)


_POSITIONS = BulkInsert(usage_positions)
_LAUNCHES = BulkInsert(counted_launches, returning=counted_launches.primary_key.columns)
_MONTHS, _DETAILS = (
    BulkInsert(usage_months, _add_on_conflict, usage_months.c),
    BulkInsert(usage_details, _add_on_conflict),
)
_NOTICES = BulkInsert(usage_notices, returning=usage_notices.primary_key.columns)


async def _move_position(connection: AsyncConnection, incarnation: str, move: OffsetRange) -> bool:
    columns = usage_positions.c
    is_unmoved = (
        (columns.partition == move.partition)
        & (columns.incarnation == incarnation)
        & (columns.next_offset == move.start)
    )
    result = await connection.execute(update(usage_positions).where(is_unmoved).values(next_offset=move.end))
    return result.rowcount == 1


async def _plan_limits(connection: AsyncConnection, account_ids: set[str]) -> dict[str, int]:
    query = select(accounts.c.id, accounts.c.plan_limit).where(
        accounts.c.id.in_(account_ids), accounts.c.plan_limit.is_not(None)
    )
    return {row.id: row.plan_limit for row in await connection.execute(query)}


class SqlUsage(SqlStorage):
    """`Usage` in SQL."""

    async def months(self, account_id: str, limit: int) -> Sequence[UsageMonth]:
        """The months of an account, newest first."""
        columns = usage_months.c
        query = select(usage_months).where(columns.account_id == account_id).order_by(columns.month.desc()).limit(limit)
        return [UsageMonth(row.month, row.launches, row.late_launches) for row in await self._database.rows(query)]

    async def details(
        self, account_id: str, month: str, place: UsageCursor | None, limit: int
    ) -> Sequence[UsageDetail]:
        """A month's launches by package and dispatch, in the order of these ids."""
        columns = usage_details.c
        query = _select_details(account_id, month).order_by(columns.package_id, columns.dispatch_id).limit(limit)
        if place is not None:
            query = query.where(tuple_(columns.package_id, columns.dispatch_id) > tuple_(*map(literal, place)))
        return await self._read(query)

    async def largest(self, account_id: str, month: str, limit: int) -> Sequence[UsageDetail]:
        """The same, with the most launches first."""
        columns = usage_details.c
        ordered_query = _select_details(account_id, month).order_by(
            columns.launches.desc(), columns.package_id, columns.dispatch_id
        )
        return await self._read(ordered_query.limit(limit))

    async def _read(self, query: Select[Any]) -> Sequence[UsageDetail]:
        return [
            UsageDetail(row.package_id or None, row.dispatch_id or None, row.launches)
            for row in await self._database.rows(query)
        ]


def _select_details(account_id: str, month: str) -> Select[Any]:
    return select(usage_details).where(usage_details.c.account_id == account_id, usage_details.c.month == month)
