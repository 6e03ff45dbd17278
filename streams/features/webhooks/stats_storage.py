"""Read the statistics of webhooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from sqlalchemy import Select, func, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.deliveries import (
    IS_FAILED,
    IS_NOT_DELIVERED,
    attempts,
    deliveries,
    hourly_attempts,
    response_times,
    webhook_health,
    webhooks,
)
from streams.core.deliveries.delivery import State, Trigger
from streams.core.deliveries.delivery_state import StateCount
from streams.core.deliveries.outcome import RESPONSE_KINDS, OutcomeKind
from streams.core.webhooks.webhook_stats import (
    FailedAttempt,
    FailureStreak,
    HourlyAttempts,
    ResponseTimes,
    WebhookStats,
    WebhookSummary,
)


class SqlWebhookStats(SqlStorage):
    """`WebhookStats` in SQL."""

    async def failure_streak(self, webhook_id: str) -> FailureStreak:
        """The webhook's failure streak in its current health epoch."""
        row = await self._database.row(_STREAKS.where(webhook_health.c.webhook_id == webhook_id))
        return to_value(FailureStreak, row) if row else FailureStreak()

    async def summaries(self, webhook_ids: Sequence[str], since: datetime) -> Mapping[str, WebhookSummary]:
        """The summary of each of these webhooks since this hour."""
        hourly, times, current = hourly_attempts.c, response_times.c, deliveries.c
        counts = (
            select(
                hourly.webhook_id,
                hourly.outcome,
                func.sum(hourly.attempts).label("how_many"),
                func.max(hourly.last_at).label("last_at"),
                func.max(hourly.slowest_ms).label("slowest_ms"),
            )
            .where(hourly.webhook_id.in_(webhook_ids), hourly.hour >= since)
            .group_by(hourly.webhook_id, hourly.outcome)
        )
        histogram = (
            select(times.webhook_id, times.up_to_ms, func.sum(times.attempts).label("how_many"))
            .where(times.webhook_id.in_(webhook_ids), times.hour >= since)
            .group_by(times.webhook_id, times.up_to_ms)
        )
        unfinished_query = (
            select(current.webhook_id, current.state, func.count().label("how_many"))
            .where(current.webhook_id.in_(webhook_ids), IS_NOT_DELIVERED & current.state.in_(_UNFINISHED_STATES))
            .group_by(current.webhook_id, current.state)
        )
        parts_by_id = {webhook_id: _SummaryParts() for webhook_id in webhook_ids}
        async with self._database.read_transaction() as connection:
            for row in await connection.execute(_STREAKS.where(webhook_health.c.webhook_id.in_(webhook_ids))):
                parts_by_id[row.webhook_id].failure_streak = to_value(FailureStreak, row)
            for row in await connection.execute(counts):
                parts_by_id[row.webhook_id].attempts[row.outcome] = int(row.how_many)
                if row.outcome == OutcomeKind.DELIVERED:
                    parts_by_id[row.webhook_id].last_delivered_at = row.last_at
                if row.outcome in RESPONSE_KINDS:
                    parts_by_id[row.webhook_id].slowest_times_ms.append(row.slowest_ms)
            for row in await connection.execute(histogram):
                bucket = ResponseTimes(row.webhook_id, since, row.up_to_ms, int(row.how_many))
                parts_by_id[row.webhook_id].response_times.append(bucket)
            for row in await connection.execute(unfinished_query):
                parts_by_id[row.webhook_id].unfinished[State(row.state)] = row.how_many
        return {
            webhook_id: WebhookSummary(
                parts.attempts,
                parts.response_times,
                parts.unfinished,
                parts.failure_streak,
                parts.last_delivered_at,
                since,
                max(parts.slowest_times_ms, default=inf),
            )
            for webhook_id, parts in parts_by_id.items()
        }

    async def stats(self, webhook_id: str, since: datetime) -> WebhookStats:
        """Attempts and response times by the hour since this hour, oldest first, and unfinished deliveries."""
        hourly, current = hourly_attempts.c, deliveries.c
        group_columns = (current.state, current.tier, current.reason)
        hours = select(hourly_attempts).where(hourly.webhook_id == webhook_id, hourly.hour >= since)
        unfinished_query = select(*group_columns, func.count().label("how_many")).where(
            current.webhook_id == webhook_id, IS_NOT_DELIVERED & current.state.in_(_UNFINISHED_STATES)
        )
        async with self._database.read_transaction() as connection:
            rows = await connection.execute(hours.order_by(hourly.hour, hourly.outcome))
            by_hour = [HourlyAttempts(*row) for row in rows]
            counts = await connection.execute(unfinished_query.group_by(*group_columns))
            state_counts = [StateCount(State(row.state), row.tier, row.reason, row.how_many) for row in counts]
            histogram = [ResponseTimes(*row) for row in await connection.execute(_select_histogram(webhook_id, since))]
            streak = (await connection.execute(_STREAKS.where(webhook_health.c.webhook_id == webhook_id))).one_or_none()
        failure_streak = to_value(FailureStreak, streak) if streak else FailureStreak()
        return WebhookStats(since, by_hour, histogram, state_counts, failure_streak)

    async def response_times(self, webhook_id: str, since: datetime) -> Sequence[ResponseTimes]:
        """Response times by the hour, oldest first."""
        return [ResponseTimes(*row) for row in await self._database.rows(_select_histogram(webhook_id, since))]

    async def last_attempt_at(self, webhook_id: str, outcome: str) -> datetime | None:
        """When the last attempt with this outcome ended."""
        condition = (hourly_attempts.c.webhook_id == webhook_id) & (hourly_attempts.c.outcome == outcome)
        newest_at: datetime | None = await self._database.scalar(
            select(func.max(hourly_attempts.c.last_at)).where(condition)
        )
        return newest_at

    async def failures(self, webhook_id: str, limit: int) -> Sequence[FailedAttempt]:
        """The webhook's last failed attempts, newest first."""
        attempt_columns = attempts.c
        columns = (
            attempt_columns.delivery_id,
            attempt_columns.started_at,
            attempt_columns.ended_at,
            attempt_columns.status,
            attempt_columns.message,
        )
        # A test tells nothing about the endpoint's events.
        condition = (attempt_columns.webhook_id == webhook_id) & IS_FAILED & (attempt_columns.trigger != Trigger.TEST)
        query = select(*columns).where(condition).order_by(attempt_columns.started_at.desc()).limit(limit)
        return [_to_failed_attempt(row) for row in await self._database.rows(query)]

    async def account_hours(self, account_id: str, since: datetime) -> Sequence[HourlyAttempts]:
        """Attempts of an account by the hour and the outcome, oldest first; without a webhook id."""
        hourly = hourly_attempts.c
        query = (
            select(
                hourly.hour,
                hourly.outcome,
                func.sum(hourly.attempts).label("attempts"),
                func.sum(hourly.milliseconds).label("milliseconds"),
                func.max(hourly.slowest_ms).label("slowest_ms"),
                func.max(hourly.last_at).label("last_at"),
            )
            .join(webhooks, webhooks.c.id == hourly.webhook_id)
            .where(webhooks.c.account_id == account_id, hourly.hour >= since)
            .group_by(hourly.hour, hourly.outcome)
            .order_by(hourly.hour, hourly.outcome)
        )
        rows = await self._database.rows(query)
        return [
            HourlyAttempts("", row.hour, row.outcome, int(row.attempts), row.milliseconds, row.slowest_ms, row.last_at)
            for row in rows
        ]


@dataclass(slots=True)
class _SummaryParts:
    attempts: dict[str, int] = field(default_factory=dict)
    response_times: list[ResponseTimes] = field(default_factory=list)
    unfinished: dict[State, int] = field(default_factory=dict)
    failure_streak: FailureStreak = field(default_factory=FailureStreak)
    last_delivered_at: datetime | None = None
    slowest_times_ms: list[float] = field(default_factory=list)


# For the current health epochs.
_STREAKS = select(webhook_health).join(
    webhooks, (webhooks.c.id == webhook_health.c.webhook_id) & (webhooks.c.health_epoch == webhook_health.c.epoch)
)


def _select_histogram(webhook_id: str, since: datetime) -> Select[Any]:
    columns = response_times.c
    query = select(response_times).where(columns.webhook_id == webhook_id, columns.hour >= since)
    return query.order_by(columns.hour, columns.up_to_ms)


def _to_failed_attempt(row: Any) -> FailedAttempt:
    milliseconds = (row.ended_at - row.started_at).total_seconds() * 1000
    return FailedAttempt(row.delivery_id, row.started_at, milliseconds, row.status, row.message)


_UNFINISHED_STATES = (State.WAITING, State.HELD, State.DEAD)
