"""Count the health of webhooks. Pause webhooks over the limit by compare-and-set, and add a mail."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.accounts import accounts, mails
from streams.adapters.sql.tables.deliveries import pauses, webhook_health, webhooks
from streams.adapters.sql.webhooks.dirty_webhooks import mark_webhook_dirty, next_version
from streams.adapters.sql.webhooks.webhook_rows import readable_options
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.mail import MUTED_MESSAGE, PAUSE_GROUPING_WINDOW, MailKind
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery_state import Batch
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.times import format_time
from streams.core.webhooks.delivery_options import DeliveryOptions, OnGone, Resume
from streams.core.webhooks.health import MAX_FAILURE_AGE, Health, HealthSample
from streams.core.webhooks.probe import next_probe_at
from streams.core.webhooks.webhook import PauseReason, Status
from streams.ids import new_id
from streams.ports.runtime import Clock

_HEALTH_COLUMNS = [column.name for column in webhook_health.c if column.name != "webhook_id"]


class LockedWebhook(NamedTuple):
    """The values that a locked webhook's health depends on: its epoch, and its stored options."""

    health_epoch: int
    options_text: str | None

    @property
    def options(self) -> DeliveryOptions:
        # Options of a newer release: attempts are stored anyway, and the default limit pauses the webhook.
        return readable_options(self.options_text)


class WebhookHealth:
    """The health of webhooks in SQL, within the recorder's transaction, which has locked the webhooks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def count(
        self,
        connection: AsyncConnection,
        batch: Batch,
        new_ids: Collection[str],
        locked_webhooks: Mapping[str, LockedWebhook],
    ) -> list[dict[str, str]]:
        """Count the new attempts. Returns the pauses and deletions that they caused, as fields of log lines."""
        by_webhook: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in batch.attempts:
            if attempt.id in new_ids and attempt.webhook_id in locked_webhooks:
                by_webhook[attempt.webhook_id].append(attempt)
        stored_health = await self._read_health(connection, sorted(by_webhook), locked_webhooks)
        counted_since, is_down = self._clock.now() - MAX_FAILURE_AGE, batch.own_network_is_down
        pauses = []
        changed_health = []
        for webhook_id, attempts_of_webhook in sorted(by_webhook.items()):
            previous, options = stored_health[webhook_id], locked_webhooks[webhook_id].options
            health = previous.with_attempts(
                map(_sample, attempts_of_webhook),
                pause_after=options.pause_after,
                counted_since=counted_since,
                own_network_is_down=is_down,
            )
            if health != previous:
                changed_health.append(
                    {"webhook_id": webhook_id, **{name: getattr(health, name) for name in _HEALTH_COLUMNS}}
                )
            if health.pause is not None and (pause := await self._pause(connection, webhook_id, health, options)):
                pauses.append(pause)
        if changed_health:
            statement = insert(webhook_health)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[webhook_health.c.webhook_id],
                    set_={name: statement.excluded[name] for name in _HEALTH_COLUMNS},
                ),
                changed_health,
            )
        return pauses

    async def _read_health(
        self,
        connection: AsyncConnection,
        webhook_ids: Sequence[str],
        locked_webhooks: Mapping[str, LockedWebhook],
    ) -> dict[str, Health]:
        rows = await connection.execute(select(webhook_health).where(webhook_health.c.webhook_id.in_(webhook_ids)))
        stored_health = {row.webhook_id: to_value(Health, row, pause=None) for row in rows}
        return {
            webhook_id: stored_health[webhook_id]
            if webhook_id in stored_health
            and stored_health[webhook_id].epoch == locked_webhooks[webhook_id].health_epoch
            else Health(locked_webhooks[webhook_id].health_epoch)
            for webhook_id in webhook_ids
        }

    async def _pause(
        self, connection: AsyncConnection, webhook_id: str, health: Health, options: DeliveryOptions
    ) -> dict[str, str] | None:
        """Pause the webhook if it is still active in the same epoch, and add its mail.

        A webhook that is gone is deleted instead, if its options say so.
        """
        now = self._clock.now()
        pause_id, reason = new_id("pause"), str(health.pause)
        condition = (
            (webhooks.c.id == webhook_id)
            & (webhooks.c.status == Status.ACTIVE)
            & (webhooks.c.health_epoch == health.epoch)
            & webhooks.c.deleted_at.is_(None)
        )
        row = (await connection.execute(select(webhooks).where(condition))).one_or_none()
        if row is None:
            return None
        version = next_version(row.version, now)
        is_deleted = health.pause is PauseReason.GONE and options.on_gone is OnGone.DELETE
        changes: dict[str, Any] = (
            {"deleted_at": now}
            if is_deleted
            else {
                "status": Status.PAUSED,
                "pause_id": pause_id,
                "pause_reason": reason,
                "paused_at": now,
                "probe_at": next_probe_at(now, now) if options.resume is Resume.PROBE else None,
            }
        )
        await connection.execute(update(webhooks).where(condition).values(version=version, **changes))
        await mark_webhook_dirty(connection, webhook_id, version)
        if not is_deleted:
            await connection.execute(
                pauses.insert().values(id=pause_id, webhook_id=webhook_id, reason=reason, began_at=now)
            )
        mail_row = self._mail_row(row, health, pause_id, now, is_deleted)
        if (probe_at := changes.get("probe_at")) is not None:
            mail_row["details"]["probeAt"] = format_time(probe_at)
        muted = await connection.scalar(select(accounts.c.muted_mails).where(accounts.c.id == row.account_id))
        if MailKind.PAUSED in (muted or ()):
            mail_row |= {"due_at": None, "problem": MUTED_MESSAGE}
        await connection.execute(mails.insert().values(mail_row))
        action = "webhook.deleted" if is_deleted else "webhook.paused"
        audit_entry = AuditEntry(new_id("audit"), "record", action, webhook_id, now, row.account_id, {"reason": reason})
        await write_entry(connection, audit_entry)
        log_fields = {"webhook_id": webhook_id, "account_id": row.account_id, "reason": reason}
        return log_fields if is_deleted else {**log_fields, "pause_id": pause_id}

    async def end_probes(
        self, connection: AsyncConnection, attempts: Sequence[Attempt], locked_webhooks: Mapping[str, LockedWebhook]
    ) -> list[dict[str, str]]:
        """Enable webhooks whose probe succeeded. Returns fields of log lines.

        A probe of an earlier pause changes nothing.
        """
        now = self._clock.now()
        enabled = []
        for attempt in sorted(attempts, key=attrgetter("webhook_id")):
            if attempt.pause_id is None or attempt.webhook_id not in locked_webhooks:
                continue
            condition = (
                (webhooks.c.id == attempt.webhook_id)
                & (webhooks.c.pause_id == attempt.pause_id)
                & (webhooks.c.pause_reason != PauseReason.MANUAL)
                & webhooks.c.deleted_at.is_(None)
            )
            row = (await connection.execute(select(webhooks).where(condition))).one_or_none()
            if row is None or locked_webhooks[row.id].options.resume is not Resume.PROBE:
                continue
            if attempt.outcome is not OutcomeKind.DELIVERED:
                # After a crash of `publish` it is not set yet.
                is_due = condition & (webhooks.c.probe_at <= now)
                await connection.execute(
                    update(webhooks).where(is_due).values(probe_at=next_probe_at(row.paused_at, now))
                )
                continue
            if attempt.health_epoch != row.health_epoch:
                # The URL has changed since.
                continue
            await self._enable(connection, row, now)
            enabled.append({"webhook_id": row.id, "account_id": row.account_id, "pause_id": row.pause_id})
        return enabled

    async def note_certificates(self, connection: AsyncConnection, attempts: Sequence[Attempt]) -> None:
        """Store when certificates of endpoints expire, if that is soon."""
        ends = {attempt.webhook_id: attempt.certificate_ends_at for attempt in attempts if attempt.certificate_ends_at}
        for webhook_id, ends_at in sorted(ends.items()):
            is_other = webhooks.c.certificate_ends_at.is_distinct_from(ends_at)
            noted = update(webhooks).where(webhooks.c.id == webhook_id, is_other)
            await connection.execute(noted.values(certificate_ends_at=ends_at))

    async def _enable(self, connection: AsyncConnection, row: Any, now: datetime) -> None:
        version = next_version(row.version, now)
        changes: dict[str, Any] = {
            **dict.fromkeys(("pause_id", "pause_reason", "paused_at", "probe_at")),
            "status": Status.ACTIVE,
            "health_epoch": row.health_epoch + 1,
        }
        await connection.execute(update(webhooks).where(webhooks.c.id == row.id).values(version=version, **changes))
        await mark_webhook_dirty(connection, row.id, version)
        ended = {"ended_at": now, "choice": HeldChoice.DELIVER}
        await connection.execute(update(pauses).where(pauses.c.id == row.pause_id).values(ended))
        details = {"held": str(HeldChoice.DELIVER), "reason": str(Resume.PROBE)}
        audit_entry = AuditEntry(new_id("audit"), "record", "webhook.enabled", row.id, now, row.account_id, details)
        await write_entry(connection, audit_entry)

    def _mail_row(self, webhook: Any, health: Health, pause_id: str, now: datetime, is_deleted: bool) -> dict[str, Any]:
        details = {
            "reason": str(health.pause),
            "deleted": is_deleted or None,
            "url": webhook.url,
            "description": webhook.description or None,
            "pausedAt": None if is_deleted else format_time(now),
            "failures": health.failures,
            "since": format_time(health.first_failed_at) if health.first_failed_at else None,
            "lastAt": format_time(health.last_failed_at) if health.last_failed_at else None,
            "lastStatus": health.last_status,
            "lastMessage": health.last_message,
        }
        return {
            "id": new_id("mail"),
            "key": f"{MailKind.PAUSED}/{pause_id}",
            "account_id": webhook.account_id,
            "webhook_id": webhook.id,
            "kind": MailKind.PAUSED,
            "details": {name: value for name, value in details.items() if value is not None},
            "created_at": now,
            "due_at": now + PAUSE_GROUPING_WINDOW,
            "is_open": not is_deleted,
            "is_event_due": not is_deleted,
        }


def _sample(attempt: Attempt) -> HealthSample:
    return HealthSample(
        health_epoch=attempt.health_epoch,
        trigger=attempt.trigger,
        target=attempt.target,
        outcome=attempt.outcome,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        status=attempt.status,
        message=attempt.message,
    )
