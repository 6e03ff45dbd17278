"""Erased events: the events of a batch that belong to erased learners, and the rest of their deliveries."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import case, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.many_keys import in_pairs
from streams.adapters.sql.erasures.learner_hash import find_keys
from streams.adapters.sql.erasures.redaction import redact_messages
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.deliveries import attempts, deliveries
from streams.adapters.sql.tables.erasures import erased_learners
from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import Batch, EventKey, RecordedEvent
from streams.core.erasures.erasure import (
    ERASED_MESSAGE,
    ERASED_REASON,
    ErasedKind,
    erase_response,
    is_erased,
    learner_hash,
)
from streams.ports.delivery import Encryption

# Account id, learner's hash.
_Learner = tuple[str, str]


class SqlErasedEvents:
    """Finds the events of erased learners within a transaction."""

    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption

    async def find_erased(
        self, connection: AsyncConnection, events: Mapping[EventKey, RecordedEvent], erasing_accounts: Collection[str]
    ) -> set[EventKey]:
        """The events among these that are erased; `erasing_accounts` have erasures. Raises `WrongKeys`."""
        keys = await find_keys(connection, self._encryption) if erasing_accounts else []
        learners: dict[EventKey, list[_Learner]] = {
            (account_id, event_id): [(account_id, learner_hash(key, account_id, learner_id).hex()) for key in keys]
            for (account_id, event_id), event in events.items()
            if account_id in erasing_accounts and (learner_id := event.subjects.learner_id) is not None
        }
        erased_at = await _erased_at(connection, {learner for hashed in learners.values() for learner in hashed})
        return {
            event_key
            for event_key, hashed in learners.items()
            for learner in hashed
            if is_erased(erased_at.get(learner), events[event_key].first_seen_at, events[event_key].body)
        }


async def without_erased(
    connection: AsyncConnection, batch: Batch, erased_keys: Collection[EventKey], erasing_accounts: Collection[str]
) -> Batch:
    """The batch without these events, and without the responses to attempts at erased deliveries."""
    events = {key: event for key, event in batch.events.items() if key not in erased_keys}
    ids = {attempt.delivery_id for attempt in batch.attempts if attempt.account_id in erasing_accounts}
    query = select(deliveries.c.id).where(deliveries.c.id.in_(ids), deliveries.c.reason == ERASED_REASON)
    delivery_ids = set(await connection.scalars(query)) if ids else set()
    attempts = [
        erase_response(attempt)
        if attempt.delivery_id in delivery_ids or (attempt.account_id, attempt.event_id) in erased_keys
        else attempt
        for attempt in batch.attempts
    ]
    return replace(batch, events=events, attempts=attempts)


async def erase_stored(
    connection: AsyncConnection, batch: Batch, erased_keys: Collection[EventKey], now: datetime
) -> None:
    """Erase the stored deliveries of these events, and the data of earlier attempts."""
    erasing_accounts = [
        delivery_state
        for delivery_state in batch.delivery_states
        if (delivery_state.account_id, delivery_state.event_id) in erased_keys
    ]
    await erase_deliveries(connection, sorted(delivery_state.delivery_id for delivery_state in erasing_accounts), now)
    learners: defaultdict[str, set[str]] = defaultdict(set)
    for delivery_state in erasing_accounts:
        learners[batch.events[delivery_state.account_id, delivery_state.event_id].subjects.learner_id or ""].add(
            delivery_state.webhook_id
        )
    for learner_id, webhook_ids in learners.items():
        await redact_messages(connection, learner_id, webhook_ids)


async def accounts_with_erasures(connection: AsyncConnection, account_ids: Collection[str]) -> set[str]:
    """The accounts among these in which a learner was erased."""
    if not account_ids:
        return set()
    has_erasure = exists().where(erased_learners.c.account_id == accounts.c.id)
    query = select(accounts.c.id).where(accounts.c.id.in_(account_ids), has_erasure)
    return set(await connection.scalars(query))


async def _erased_at(connection: AsyncConnection, learners: Collection[_Learner]) -> Mapping[_Learner, datetime]:
    """When each of these learners was last erased."""
    if not learners:
        return {}
    key = (erased_learners.c.account_id, erased_learners.c.learner_hash)
    query = select(*key, erased_learners.c.erased_at).where(in_pairs(connection, key, sorted(learners)))
    return {(account_id, learner_hash): at for account_id, learner_hash, at in await connection.execute(query)}


IS_NOT_ERASED = deliveries.c.reason.is_distinct_from(ERASED_REASON)
_IS_UNFINISHED = deliveries.c.state.in_((State.WAITING, State.HELD, State.DEAD))
_ERASED_ATTEMPT = {"response_headers": {}, "response_body": b"", "message": ERASED_MESSAGE}


async def erase_deliveries(connection: AsyncConnection, ids: Sequence[str], now: datetime) -> Counter[str]:
    """Erase these deliveries with their attempts, and count them. Pending and dead ones become discarded.

    The new generation supersedes each record of these deliveries that is still on a topic.
    """
    if not ids:
        return Counter()
    # The recorder locks in id order, too. Another order could deadlock.
    lock = select(deliveries.c.id, deliveries.c.state).where(deliveries.c.id.in_(ids), IS_NOT_ERASED)
    rows = (await connection.execute(lock.order_by(deliveries.c.id).with_for_update())).all()
    if not rows:
        return Counter()
    delivery_ids = [row.id for row in rows]
    columns = deliveries.c
    end_values = {
        "state": case((_IS_UNFINISHED, State.DISCARDED), else_=columns.state),
        "changed_at": case((_IS_UNFINISHED, now), else_=columns.changed_at),
        "generation": columns.generation + 1,
        "reason": ERASED_REASON,
        "message": ERASED_MESSAGE,
        "tier": None,
        "due_at": None,
        "pause_id": None,
    }
    await connection.execute(update(deliveries).where(columns.id.in_(delivery_ids)).values(end_values))
    result = await connection.execute(
        update(attempts).where(attempts.c.delivery_id.in_(delivery_ids)).values(_ERASED_ATTEMPT)
    )
    unfinished_count = sum(row.state in (State.WAITING, State.HELD, State.DEAD) for row in rows)
    return Counter(
        {
            ErasedKind.DELIVERIES: len(delivery_ids),
            ErasedKind.DISCARDED: unfinished_count,
            ErasedKind.ATTEMPTS: int(result.rowcount),
        }
    )
