"""Erasures in SQL. A portion and its progress are one transaction."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.deliveries.ordered_query import subject_conditions
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.erasures.erased_events import SqlErasedEvents, accounts_with_erasures
from streams.adapters.sql.erasures.erasure_outbox import store_erased
from streams.adapters.sql.erasures.learner_hash import ensure_key, find_keys
from streams.adapters.sql.tables.course_sessions import course_sessions
from streams.adapters.sql.tables.deliveries import events, webhooks
from streams.adapters.sql.tables.erasures import erased_learners, erasures
from streams.adapters.sql.webhooks.account_limits import require_row_limit
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.delivery_state import EventKey, RecordedEvent
from streams.core.encryption import WrongKeys
from streams.core.erasures.erasure import (
    HASH_KEY_BYTES,
    ErasedLearner,
    Erasure,
    HashedLearner,
    hash_key_id,
    learner_hash,
)
from streams.core.errors import InvalidRecord
from streams.core.events.event import EventSubjects
from streams.core.failed_work import FailedRows, read_rows
from streams.core.limits import MAX_ERASURES_PER_DAY
from streams.features.learners.erasure_steps import STEPS, Learner
from streams.features.shared.audit_trail import new_entry
from streams.ids import new_id
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock

_FIRST_STEP = next(iter(STEPS))
_TOO_MANY_MESSAGE = (
    "the account has erased {count} learners in the last 24 hours, and may erase at most {limit}: go on later"
)


@dataclass(frozen=True, slots=True)
class RestoredLearner:
    """An erased learner whose data is back."""

    account_id: str
    learner_hash: str
    learner_id: str = field(repr=False)
    erased_at: datetime


_SELECT_ERASED = select(erased_learners.c.account_id, erased_learners.c.learner_hash, erased_learners.c.erased_at)
# Each learner, with the time of the first data.
_FIRST_EVENTS = (
    select(events.c.account_id, events.c.learner_id, func.min(events.c.first_seen_at).label("first_at"))
    .where(events.c.learner_id.is_not(None))
    .group_by(events.c.account_id, events.c.learner_id)
)
_FIRST_SESSIONS = select(
    course_sessions.c.account_id,
    course_sessions.c.learner_id,
    func.min(course_sessions.c.launched_at).label("first_at"),
).group_by(course_sessions.c.account_id, course_sessions.c.learner_id)


class SqlErasures:
    """`Erasures` in SQL. `random_bytes` makes the key that learner ids are hashed with.

    Starting an erasure raises `WrongKeys` if this process has the wrong encryption keys: no other could read it.
    """

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        keys: SqlEncryptionCheck | None = None,
    ) -> None:
        self._database = database
        self._encryption = encryption
        self._clock = clock
        self._random_bytes = random_bytes
        self._keys = keys
        self._erased_events = SqlErasedEvents(encryption)

    async def hash_learner(self, account_id: str, learner_id: str) -> HashedLearner:
        async with self._database.transaction() as connection:
            if self._keys is not None:
                await self._keys.verify_in(connection)
            key = await ensure_key(connection, self._encryption, self._random_bytes(HASH_KEY_BYTES))
        return HashedLearner(hash_key_id(key), learner_hash(key, account_id, learner_id).hex())

    async def start(self, erasure: Erasure, hash_key_id: str, learner_id: str, audit_entry: AuditEntry) -> Erasure:
        async with self._database.transaction() as connection:
            await _lock_webhooks(connection, erasure.account_id)
            is_recent = erasures.c.erased_at > erasure.created_at - timedelta(days=1)
            await require_row_limit(
                connection, erasure.account_id, erasures, is_recent, MAX_ERASURES_PER_DAY, _TOO_MANY_MESSAGE
            )
            newest_seen_at = await _newest_seen_at(connection, erasure.account_id, learner_id)
            # The broker's clock, which dates events, may be ahead of this process's clock.
            erasure = replace(erasure, erased_at=max(erasure.erased_at, newest_seen_at or erasure.erased_at))
            await self._insert(connection, erasure, learner_id)
            erased = ErasedLearner(erasure.account_id, erasure.learner_hash, hash_key_id, erasure.erased_at)
            await store_erased(connection, erased)
            await write_entry(connection, audit_entry)
        return erasure

    async def _insert(self, connection: AsyncConnection, erasure: Erasure, learner_id: str) -> None:
        secret_columns = {"encrypted_learner": self._encryption.encrypt(learner_id), "step": _FIRST_STEP}
        await connection.execute(insert(erasures).values(**asdict(erasure), **secret_columns))

    async def list_restored(self) -> Sequence[RestoredLearner]:
        """The erased learners whose erased data is here: a restore of an older dump brought it back."""
        restored: list[RestoredLearner] = []
        async with self._database.read_transaction() as connection:
            keys = await find_keys(connection, self._encryption)
            erased = {
                (row.account_id, row.learner_hash): row.erased_at for row in await connection.execute(_SELECT_ERASED)
            }
            for query in (_FIRST_EVENTS, _FIRST_SESSIONS):
                statement = query.where(query.selected_columns.account_id.in_(select(erased_learners.c.account_id)))
                async for row in await connection.stream(statement):
                    for key in keys:
                        hashed = learner_hash(key, row.account_id, row.learner_id).hex()
                        erased_at = erased.get((row.account_id, hashed))
                        if erased_at is not None and row.first_at <= erased_at:
                            restored.append(RestoredLearner(row.account_id, hashed, row.learner_id, erased_at))
        return list(dict.fromkeys(restored))

    async def start_again(self, learner: RestoredLearner, actor: str) -> Erasure:
        """Begin an erasure again, of all data until its old time. The topic has it already."""
        now = self._clock.now()
        erasure = Erasure(new_id("ers"), learner.account_id, learner.learner_hash, learner.erased_at, now, actor)
        details = {"learner_hash": learner.learner_hash, "reason": "restored"}
        entry = new_entry(self._clock, actor, "learner.erased", erasure.id, learner.account_id, **details)
        async with self._database.transaction() as connection:
            await self._insert(connection, erasure, learner.learner_id)
            await write_entry(connection, entry)
        return erasure

    async def find(self, erasure_id: str) -> Erasure | None:
        row = await self._database.row(select(erasures).where(erasures.c.id == erasure_id))
        return to_value(Erasure, row) if row else None

    async def list_unfinished(self, started_before: datetime, failed_rows: FailedRows = None) -> Sequence[Erasure]:
        is_unfinished = erasures.c.finished_at.is_(None) & (erasures.c.created_at < started_before)
        rows = await self._database.rows(select(erasures).where(is_unfinished).order_by(erasures.c.created_at))
        return read_rows(rows, lambda row: to_value(Erasure, row), failed_rows)

    async def do_next_portion(self, erasure_id: str) -> Erasure:
        async with self._database.transaction() as connection:
            query = select(erasures).where(erasures.c.id == erasure_id).with_for_update()
            row = (await connection.execute(query)).one()
            if row.finished_at is not None:
                return to_value(Erasure, row)
            learner = Learner(
                row.account_id, self._decrypt_learner(row), row.erased_at, self._clock.now(), self._encryption
            )
            portion = await STEPS[row.step](connection, learner, row.place or [])
            erasure = replace(to_value(Erasure, row), counts=dict(Counter(row.counts) + Counter(portion.counts)))
            step = row.step if portion.place is not None else _next_step(row.step)
            changes: dict[str, Any] = {"counts": erasure.counts, "step": step, "place": portion.place}
            if step is None:
                erasure = replace(erasure, finished_at=learner.now)
                changes |= {"finished_at": learner.now, "encrypted_learner": None}
                await write_entry(connection, self._end_entry(erasure))
            await connection.execute(update(erasures).where(erasures.c.id == erasure_id).values(changes))
            return erasure

    async def find_erased(self, events: Mapping[EventKey, RecordedEvent]) -> Collection[EventKey]:
        async with self._database.read_transaction() as connection:
            erasing_accounts = await accounts_with_erasures(connection, {account_id for account_id, _ in events})
            return await self._erased_events.find_erased(connection, events, erasing_accounts)

    def _decrypt_learner(self, row: Any) -> str:
        try:
            return self._encryption.decrypt(row.encrypted_learner)
        except InvalidRecord:
            raise WrongKeys from None

    def _end_entry(self, erasure: Erasure) -> AuditEntry:
        """The audit entry of the end of an erasure. Its actor is the one who requested it."""
        now, details = self._clock.now(), {"learnerHash": erasure.learner_hash, "erased": dict(erasure.erased)}
        action = "learner.erasure_finished"
        entry_id = new_id("audit")
        return AuditEntry(entry_id, erasure.actor, action, erasure.id, now, erasure.account_id, details)


async def _lock_webhooks(connection: AsyncConnection, account_id: str) -> None:
    """Wait for batches that may be storing events of the learner: later batches know of the erasure."""
    account_webhook_ids = select(webhooks.c.id).where(webhooks.c.account_id == account_id)
    await connection.execute(account_webhook_ids.order_by(webhooks.c.id).with_for_update())


async def _newest_seen_at(connection: AsyncConnection, account_id: str, learner_id: str) -> datetime | None:
    condition = subject_conditions(EventSubjects(learner_id=learner_id))
    query = select(func.max(events.c.first_seen_at)).where(events.c.account_id == account_id, *condition)
    newest: datetime | None = await connection.scalar(query)
    return newest


def _next_step(step: str) -> str | None:
    names = list(STEPS)
    return next(iter(names[names.index(step) + 1 :]), None)
