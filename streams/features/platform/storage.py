"""Read the figures of all accounts, for operators."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.deliveries import (
    IS_NOT_DELIVERED,
    deliveries,
    hourly_attempts,
    webhook_health,
    webhooks,
)
from streams.core.accounts.platform_stats import AccountSummary, WebhookProblem
from streams.core.deliveries.delivery import State
from streams.core.page import Cursor, Page
from streams.core.webhooks.webhook import PauseReason, Status, webhook_title
from streams.core.webhooks.webhook_stats import FailureStreak
from streams.features.shared.accounts import accounts_page


class SqlPlatformStats(SqlStorage):
    """`PlatformStats` in SQL."""

    async def accounts(self, cursor: Cursor | None, limit: int, name: str | None = None) -> Page[AccountSummary]:
        """The accounts, newest first; with `name`, those whose name or id contains it."""
        columns = webhooks.c
        async with self._database.read_transaction() as connection:
            page = await accounts_page(connection, cursor, limit, name)
            counters = (
                select(columns.account_id, columns.status, func.count().label("how_many"))
                .where(columns.deleted_at.is_(None), columns.account_id.in_([account.id for account in page.rows]))
                .group_by(columns.account_id, columns.status)
            )
            counts: dict[str, dict[str, int]] = {}
            for row in await connection.execute(counters):
                counts.setdefault(row.account_id, {})[row.status] = row.how_many
        return Page([_summary(account, counts.get(account.id, {})) for account in page.rows], page.next_cursor)

    async def list_failing_webhooks(self, limit: int) -> Sequence[WebhookProblem]:
        """Webhooks that fail or are paused by failures, the newest failure first."""
        health, columns = webhook_health.c, webhooks.c
        automatic_reasons = [reason for reason in PauseReason if reason.is_automatic]
        query = (
            _select_webhooks(
                health.failures, health.first_failed_at, health.last_failed_at, health.last_status, health.last_message
            )
            .outerjoin(webhook_health, (health.webhook_id == columns.id) & (health.epoch == columns.health_epoch))
            .where(columns.deleted_at.is_(None), or_(health.failures > 0, columns.pause_reason.in_(automatic_reasons)))
            .order_by(health.last_failed_at.desc().nulls_last(), columns.id)
            .limit(limit)
        )
        return [_to_problem(row, failure_streak=_streak(row)) for row in await self._database.rows(query)]

    async def list_slowest_webhooks(self, since: datetime, limit: int) -> Sequence[WebhookProblem]:
        """Webhooks with the longest mean time of an attempt since this hour."""
        columns = hourly_attempts.c
        sums = (
            select(
                columns.webhook_id,
                func.sum(columns.attempts).label("attempts"),
                (func.sum(columns.milliseconds) / func.sum(columns.attempts)).label("mean_ms"),
            )
            .where(columns.hour >= since)
            .group_by(columns.webhook_id)
            .subquery()
        )
        query = (
            _select_webhooks(sums.c.attempts, sums.c.mean_ms)
            .join(sums, sums.c.webhook_id == webhooks.c.id)
            .where(webhooks.c.deleted_at.is_(None))
            .order_by(sums.c.mean_ms.desc(), webhooks.c.id)
            .limit(limit)
        )
        rows = await self._database.rows(query)
        return [_to_problem(row, mean_ms=float(row.mean_ms), attempts=int(row.attempts)) for row in rows]

    async def waiting_by_tier(self) -> Mapping[str, int]:
        """How many deliveries wait, by tier; deliveries about to be sent have an empty name."""
        columns = deliveries.c
        query = (
            select(columns.tier, func.count().label("how_many"))
            .where(IS_NOT_DELIVERED & (columns.state == State.WAITING))
            .group_by(columns.tier)
        )
        return {row.tier or "": row.how_many for row in await self._database.rows(query)}


def _select_webhooks(*columns: Any) -> Select[Any]:
    """Webhooks with their names for an operator."""
    webhook_table = webhooks.c
    webhook_columns = (
        webhook_table.id,
        webhook_table.account_id,
        webhook_table.url,
        webhook_table.description,
        webhook_table.paused_at,
    )
    return select(*webhook_columns, accounts.c.name.label("account_name"), *columns).join(
        accounts, accounts.c.id == webhook_table.account_id
    )


def _to_problem(row: Any, **fields: Any) -> WebhookProblem:
    name = webhook_title(row.description, row.url)
    return WebhookProblem(row.account_id, row.account_name, row.id, name, row.paused_at, **fields)


def _streak(row: Any) -> FailureStreak:
    return FailureStreak(row.failures or 0, row.first_failed_at, row.last_failed_at, row.last_status, row.last_message)


def _summary(account: Any, counts: Mapping[str, int]) -> AccountSummary:
    return AccountSummary(account, sum(counts.values()), counts.get(Status.PAUSED, 0))
