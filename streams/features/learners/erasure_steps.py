"""The steps of an erasure. To erase another table, write a step and add it to `STEPS`."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, delete, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.event_metadata import delete_metadata
from streams.adapters.sql.deliveries.ordered_query import subject_conditions
from streams.adapters.sql.engine.keyset import prefer_index_order
from streams.adapters.sql.erasures.erased_events import IS_NOT_ERASED, erase_deliveries
from streams.adapters.sql.erasures.redaction import MAY_NAME_LEARNERS, redact, redact_last_messages, redact_mails
from streams.adapters.sql.tables.accounts import api_keys, audit_log, idempotency_keys, mails
from streams.adapters.sql.tables.course_sessions import commit_urls, course_sessions, player_states
from streams.adapters.sql.tables.deliveries import deliveries, events, webhook_health, webhooks
from streams.adapters.sql.tables.types import Moment
from streams.adapters.sql.tables.usage import outgoing_events
from streams.core.erasures.erasure import ErasedKind, mask_learner
from streams.core.errors import InvalidRecord
from streams.core.events.event import EventSubjects
from streams.ports.delivery import Encryption

EVENTS_PER_PORTION = 500
DELIVERIES_PER_PORTION = 2000
ROWS_PER_PORTION = 500

# The key of the last row that a step has seen, as JSON.
Place = list[str]


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner to erase, with all events seen until `erased_at`. `now` is the time of the batch."""

    account_id: str
    id: str = field(repr=False)
    erased_at: datetime
    now: datetime
    encryption: Encryption


@dataclass(frozen=True, slots=True)
class ErasureBatch:
    """The rows that a step erased, and where it continues; None at its end."""

    counts: Mapping[str, int]
    place: Place | None = None


async def erase_events(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Delete events, after their deliveries and attempts are erased."""
    rows = await _oldest_events(connection, learner, place)
    if not rows:
        return ErasureBatch({})
    event_ids = [row.event_id for row in rows]
    has_event = (deliveries.c.account_id == learner.account_id) & deliveries.c.event_id.in_(event_ids)
    remaining_query = select(deliveries.c.id).where(has_event, IS_NOT_ERASED).limit(DELIVERIES_PER_PORTION)
    ids = list(await connection.scalars(remaining_query))
    counts = await erase_deliveries(connection, ids, learner.now)
    if len(ids) == DELIVERIES_PER_PORTION:
        # There may be more deliveries of the same events.
        return ErasureBatch(counts, place)
    is_listed_event = (events.c.account_id == learner.account_id) & events.c.event_id.in_(event_ids)
    counts[ErasedKind.EVENTS] += (await connection.execute(delete(events).where(is_listed_event))).rowcount
    await delete_metadata(connection, [(learner.account_id, event_id) for event_id in event_ids])
    return ErasureBatch(counts, [rows[-1].first_seen_at.isoformat()])


async def _oldest_events(connection: AsyncConnection, learner: Learner, place: Place) -> Sequence[Any]:
    columns = events.c
    condition = [columns.account_id == learner.account_id, *subject_conditions(EventSubjects(learner_id=learner.id))]
    if place:
        # Deleted rows stay in the index until a vacuum: do not walk through them again.
        condition.append(columns.first_seen_at >= datetime.fromisoformat(place[0]))
    query = select(columns.event_id, columns.first_seen_at).where(
        *condition, columns.first_seen_at <= learner.erased_at
    )
    await prefer_index_order(connection)
    ordered_query = query.order_by(columns.first_seen_at, columns.event_id).limit(EVENTS_PER_PORTION)
    return (await connection.execute(ordered_query)).all()


async def erase_sessions(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Delete SCORM sessions with their commit URLs, player states, and events that are not sent yet."""
    columns = course_sessions.c
    condition = (columns.account_id == learner.account_id) & (columns.learner_id == learner.id)
    # A session that was launched later is new. The time of the launch decides, because the commits come later.
    query = select(columns.id).where(condition, columns.launched_at <= learner.erased_at).limit(ROWS_PER_PORTION)
    ids = list(await connection.scalars(query.with_for_update()))
    for statement in (
        delete(outgoing_events).where(
            outgoing_events.c.account_id == learner.account_id, outgoing_events.c.key.in_(ids)
        ),
        delete(commit_urls).where(commit_urls.c.account_id == learner.account_id, commit_urls.c.session_id.in_(ids)),
        delete(player_states).where(
            player_states.c.account_id == learner.account_id, player_states.c.session_id.in_(ids)
        ),
        delete(course_sessions).where(columns.account_id == learner.account_id, columns.id.in_(ids)),
    ):
        await connection.execute(statement)
    return ErasureBatch({ErasedKind.SESSIONS: len(ids)}, [] if len(ids) == ROWS_PER_PORTION else None)


async def erase_responses(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Empty the stored responses that name the learner: to the account's keys, to operators and to pages."""
    columns = idempotency_keys.c
    keys = select(literal("key:") + api_keys.c.id).where(api_keys.c.account_id == learner.account_id)
    is_relevant_caller = or_(columns.caller.in_(keys), columns.caller.not_like("key:%"))
    query = select(idempotency_keys).where(is_relevant_caller, columns.encrypted_response.is_not(None))
    rows = await _next_rows(connection, query, place, columns.caller, columns.key)
    named_rows = [row for row in rows if _mentions_learner(row.encrypted_response, learner)]
    for row in named_rows:
        empty = learner.encryption.encrypt(json.dumps(["", {}]))
        condition = (columns.caller == row.caller) & (columns.key == row.key)
        await connection.execute(update(idempotency_keys).where(condition).values(encrypted_response=empty))
    return _to_batch(ErasedKind.RESPONSES, len(named_rows), rows, lambda row: [row.caller, row.key])


def _mentions_learner(encrypted_text: str, learner: Learner) -> bool:
    try:
        content = learner.encryption.decrypt(encrypted_text)
    except InvalidRecord:
        # No process can read it any more.
        return False
    values = _parse_json(content)
    if isinstance(values, list) and values and isinstance(values[0], str):
        # A response of the API: its body and its headers. Other values are the address that a page leads to.
        values = [_parse_json(values[0]), *values[1:]]
    return bool(mask_learner(values, learner.id) != values)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def erase_mails(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Mask the learner's id in mails."""
    condition = (mails.c.account_id == learner.account_id) & MAY_NAME_LEARNERS
    rows = await _next_rows(connection, select(mails).where(condition), place, mails.c.created_at, mails.c.id)
    count = await redact_mails(connection, learner.id, rows)
    return _to_batch(ErasedKind.MAILS, count, rows, lambda row: [row.created_at.isoformat(), row.id])


async def erase_last_messages(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Mask the learner's id in the last message of each webhook's endpoint."""
    account_webhook_ids = select(webhooks.c.id).where(webhooks.c.account_id == learner.account_id)
    query = select(webhook_health).where(webhook_health.c.webhook_id.in_(account_webhook_ids))
    rows = await _next_rows(connection, query, place, webhook_health.c.webhook_id)
    count = await redact_last_messages(connection, learner.id, rows)
    return _to_batch(ErasedKind.WEBHOOKS, count, rows, lambda row: [row.webhook_id])


async def erase_audit_values(connection: AsyncConnection, learner: Learner, place: Place) -> ErasureBatch:
    """Mask the learner's id in the values of the account's audit log."""
    query = select(audit_log).where(audit_log.c.account_id == learner.account_id)
    rows = await _next_rows(connection, query, place, audit_log.c.at, audit_log.c.id)
    count = await redact(connection, learner.id, audit_log, rows, audit_log.c.details)
    return _to_batch(ErasedKind.AUDIT_ENTRIES, count, rows, lambda row: [row.at.isoformat(), row.id])


Step = Callable[[AsyncConnection, Learner, Place], Awaitable[ErasureBatch]]
# By the name that a running erasure stores, in their order.
STEPS: Mapping[str, Step] = {
    # Sessions come first, because a session makes events.
    "sessions": erase_sessions,
    "events": erase_events,
    "responses": erase_responses,
    "mails": erase_mails,
    "last_messages": erase_last_messages,
    "audit_values": erase_audit_values,
}


# -- in order ------------------------------------------------------------------------------------------------------


async def _next_rows(connection: AsyncConnection, query: Select[Any], place: Place, *key: Column[Any]) -> list[Any]:
    """The next rows after a place, in the order of their key."""
    if place:
        place_values = [
            literal(_parse_key_part(part, column), column.type) for part, column in zip(place, key, strict=True)
        ]
        query = query.where(tuple_(*key) > tuple_(*place_values))
    return list((await connection.execute(query.order_by(*key).limit(ROWS_PER_PORTION))).all())


def _parse_key_part(part: str, column: Column[Any]) -> Any:
    return datetime.fromisoformat(part) if isinstance(column.type, Moment) else part


def _to_batch(kind: ErasedKind, count: int, rows: list[Any], place_of: Callable[[Any], Place]) -> ErasureBatch:
    return ErasureBatch(Counter({kind: count}), place_of(rows[-1]) if len(rows) == ROWS_PER_PORTION else None)
