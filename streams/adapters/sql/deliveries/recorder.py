"""Store attempts, delivery states, events and statistics, and count health, in one transaction."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from sqlalchemy import and_, case, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.event_metadata import insert_metadata
from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.many_keys import in_pairs
from streams.adapters.sql.erasures.erased_events import (
    SqlErasedEvents,
    accounts_with_erasures,
    erase_stored,
    without_erased,
)
from streams.adapters.sql.tables.deliveries import (
    attempts,
    deliveries,
    events,
    hourly_attempts,
    newest_change,
    response_times,
    webhooks,
)
from streams.adapters.sql.webhooks.webhook_health import LockedWebhook, WebhookHealth
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import Batch, DeliveryState, EventKey
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook_stats import by_hour, response_times_of
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock, Telemetry


class SqlRecorder:
    """A `Recorder`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        telemetry: Telemetry,
        encryption: Encryption,
    ) -> None:
        self._database = database
        self._clock = clock
        self._telemetry = telemetry
        self._erased_events = SqlErasedEvents(encryption)
        self._health = WebhookHealth(clock)

    async def record(self, batch: Batch) -> Collection[EventKey]:
        """One transaction: lock → attempts → events → delivery states → statistics → health → pauses.

        An erasure locks the webhooks when it begins, so a later batch knows of it and stores no event of that learner.
        """
        pauses: list[dict[str, str]] = []
        enabled: list[dict[str, str]] = []
        async with self._database.transaction() as connection:
            locked_webhooks = await self._lock(connection, sorted(batch.webhook_ids()))
            erasing_accounts = await accounts_with_erasures(connection, batch.account_ids())
            erased_keys = await self._erased_events.find_erased(connection, batch.events, erasing_accounts)
            original_batch, batch = batch, await without_erased(connection, batch, erased_keys, erasing_accounts)
            new_ids = await self._insert_attempts(connection, batch.attempts)
            conflicts = await self._insert_events(connection, batch)
            await self._update_deliveries(connection, batch.delivery_states)
            await erase_stored(connection, original_batch, erased_keys, self._clock.now())
            if new_ids:
                # A duplicate within the batch counts once.
                attempts_by_id = {attempt.id: attempt for attempt in reversed(batch.attempts) if attempt.id in new_ids}
                await self._add_stats(connection, list(attempts_by_id.values()))
                pauses = await self._health.count(connection, batch, new_ids, locked_webhooks)
                await self._health.note_certificates(connection, list(attempts_by_id.values()))
                if probes := [attempt for attempt in attempts_by_id.values() if attempt.pause_id is not None]:
                    enabled = await self._health.end_probes(connection, probes, locked_webhooks)
        for fields in pauses:
            if "pause_id" in fields:
                self._telemetry.count("webhooks_paused_total", reason=fields["reason"])
                self._telemetry.warning("webhook_paused", **fields)
            else:
                self._telemetry.warning("webhook_deleted", **fields)
        for fields in enabled:
            self._telemetry.info("webhook_enabled", **fields)
        return conflicts

    async def _lock(self, connection: AsyncConnection, webhook_ids: Sequence[str]) -> dict[str, LockedWebhook]:
        """Lock the webhooks in id order, which avoids deadlocks. Returns the values that their health depends on, by
        id.
        """
        if not webhook_ids:
            return {}
        query = (
            select(webhooks.c.id, webhooks.c.health_epoch, webhooks.c.options)
            .where(webhooks.c.id.in_(webhook_ids))
            .order_by(webhooks.c.id)
            .with_for_update()
        )
        return {row.id: LockedWebhook(row.health_epoch, row.options) for row in await connection.execute(query)}

    async def _insert_attempts(self, connection: AsyncConnection, attempts_of_batch: Sequence[Attempt]) -> set[str]:
        if not attempts_of_batch:
            return set()
        rows_by_id = {attempt.id: _attempt_row(attempt) for attempt in reversed(attempts_of_batch)}
        return {row.id for row in await _ATTEMPTS.execute(connection, list(rows_by_id.values()))}

    async def _insert_events(self, connection: AsyncConnection, batch: Batch) -> Collection[EventKey]:
        """Store each event once. Returns the ids of events that are stored with other data."""
        rows = event_rows(batch)
        if not rows:
            return ()
        key = events.c.account_id, events.c.event_id
        new_keys = {tuple(row) for row in await _EVENTS.execute(connection, rows)}
        await insert_metadata(connection, batch, new_keys)
        # Nearly always the stored body is the same: the event has several webhooks.
        existing = sorted(batch.events.keys() - new_keys)
        if not existing:
            return ()
        is_existing = in_pairs(connection, key, existing)
        stored_hashes = {
            (row.account_id, row.event_id): row.hash
            for row in await connection.execute(select(*key, events.c.hash).where(is_existing))
        }
        return {event_key for event_key in existing if stored_hashes.get(event_key) != batch.events[event_key].hash}

    async def _add_stats(self, connection: AsyncConnection, new_attempts: Sequence[Attempt]) -> None:
        if hours := by_hour(new_attempts):
            await _HOURS.execute(connection, [asdict(hour) for hour in hours])
        if times := response_times_of(new_attempts):
            await _TIMES.execute(connection, [asdict(sample) for sample in times])

    async def _update_deliveries(self, connection: AsyncConnection, delivery_states: Sequence[DeliveryState]) -> None:
        first_states: list[dict[str, Any]] = []
        later_states: list[dict[str, Any]] = []
        for delivery_state in sorted(delivery_states, key=attrgetter("delivery_id")):
            (first_states if delivery_state.is_first else later_states).append(delivery_row(delivery_state))
        # A first state need not lock and compare a stored row.
        for bulk, rows in ((_FIRST_STATES, first_states), (_LATER_STATES, later_states)):
            if rows:
                await bulk.execute(connection, rows)


def _add_hours(statement: Any) -> Any:
    """An insert that adds to the stored hour."""
    new, current = statement.excluded, hourly_attempts.c
    return statement.on_conflict_do_update(
        index_elements=[current.webhook_id, current.hour, current.outcome],
        set_={
            "attempts": current.attempts + new.attempts,
            "milliseconds": current.milliseconds + new.milliseconds,
            "slowest_ms": _latest(current.slowest_ms, new.slowest_ms),
            "last_at": _latest(current.last_at, new.last_at),
        },
    )


def _latest(stored_value: Any, new_value: Any) -> Any:
    return case((new_value > stored_value, new_value), else_=stored_value)


def _add_times(statement: Any) -> Any:
    """An insert that adds to the stored bucket."""
    new, current = statement.excluded, response_times.c
    return statement.on_conflict_do_update(
        index_elements=[current.webhook_id, current.hour, current.up_to_ms],
        set_={"attempts": current.attempts + new.attempts},
    )


def _insert_newer(statement: Any) -> Any:
    """An insert that changes a stored row only if the new state supersedes it."""
    new, current = statement.excluded, deliveries.c
    is_same_generation = new.generation == current.generation
    is_higher = or_(
        new.generation > current.generation,
        and_(is_same_generation, new.step > current.step),
        and_(is_same_generation, new.state == State.DELIVERED),
    )
    # The same rule as `DeliveryState.supersedes`.
    is_superseding = and_(is_higher, ~and_(is_same_generation, current.state == State.DELIVERED))
    unchanged_columns = {"id", "account_id", "event_id", "event_type", "webhook_id", "first_seen_at"}
    changes = {column.name: new[column.name] for column in current if column.name not in unchanged_columns}
    changes["changed_at"] = newest_change(new.changed_at)
    return statement.on_conflict_do_update(index_elements=[current.id], set_=changes, where=is_superseding)


_ATTEMPTS = BulkInsert(attempts, returning=[attempts.c.id])
_EVENTS = BulkInsert(events, returning=events.primary_key.columns)
_FIRST_STATES, _LATER_STATES = BulkInsert(deliveries), BulkInsert(deliveries, _insert_newer)
_HOURS, _TIMES = BulkInsert(hourly_attempts, _add_hours), BulkInsert(response_times, _add_times)
_DELIVERY_COLUMNS = ["id" if name == "delivery_id" else name for name in DeliveryState._fields]


def event_rows(batch: Batch) -> list[dict[str, Any]]:
    """The rows of the batch's events, in the order in which every transaction inserts them."""
    return [
        {
            "account_id": key[0],
            "event_id": key[1],
            "first_seen_at": event.first_seen_at,
            "body": event.body,
            "trace_parent": event.trace_parent,
            "session_id": event.subjects.session_id,
            "learner_id": event.subjects.learner_id,
            "package_id": event.subjects.package_id,
            "dispatch_id": event.subjects.dispatch_id,
            "hash": event.hash,
        }
        for key, event in sorted(batch.events.items())
    ]


def delivery_row(delivery_state: DeliveryState) -> dict[str, Any]:
    """The row of a delivery."""
    return dict(zip(_DELIVERY_COLUMNS, delivery_state, strict=True))


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    is_success = attempt.outcome is OutcomeKind.DELIVERED
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
        "response_headers": dict(attempt.response_headers),
        "response_body": attempt.response_body,
        "outcome": attempt.outcome,
        "message": attempt.message,
        "next_step": attempt.next_step,
        "tier": attempt.tier,
        "webhook_version": attempt.webhook_version,
        "fields": attempt.fields,
        "account_id": None if is_success else attempt.account_id,
        "first_seen_at": None if is_success else attempt.first_seen_at,
    }
