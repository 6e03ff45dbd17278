"""The erasures of SQL that must be on the topic `erasures`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.keyset import prefer_index_order, prefer_lookups
from streams.adapters.sql.engine.many_keys import in_pairs
from streams.adapters.sql.engine.row_watch import RowWatch
from streams.adapters.sql.erasures.learner_hash import add_ciphertext, delete_key, find_ciphertexts
from streams.adapters.sql.tables.erasures import dirty_erasures, erased_learners
from streams.core.erasures.erasure import ErasedLearner
from streams.ports.delivery import Encryption
from streams.ports.storage import ErasurePage

COMPARE_BATCH_ROWS = 5000
_KEY = (erased_learners.c.account_id, erased_learners.c.learner_hash)
_DIRTY_KEY = (dirty_erasures.c.account_id, dirty_erasures.c.learner_hash)
_START = ("", "")


class SqlErasureOutbox:
    """An `ErasureOutbox`."""

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encryption = encryption
        self._watch = RowWatch(database, dirty_erasures)
        self._due_after = _START

    async def reconcile_next(
        self, after: tuple[str, str], time_on_topic: Callable[[str], datetime | None]
    ) -> ErasurePage:
        query = select(erased_learners).where(tuple_(*_KEY) > after).order_by(*_KEY).limit(COMPARE_BATCH_ROWS)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
            times = [time_on_topic(row.learner_hash) for row in rows]
            await _mark_dirty(
                connection,
                [row for row, time in zip(rows, times, strict=True) if time is None or time < row.erased_at],
            )
        known_count = sum(time is not None and time <= row.erased_at for row, time in zip(rows, times, strict=True))
        return ErasurePage((rows[-1].account_id, rows[-1].learner_hash) if rows else None, known_count)

    async def learn(self, erased: Sequence[ErasedLearner]) -> int:
        newest = {(one.account_id, one.learner_hash): one for one in sorted(erased, key=lambda one: one.erased_at)}
        if not newest:
            return 0
        async with self._database.transaction() as connection:
            query = select(*_KEY, erased_learners.c.erased_at).where(in_pairs(connection, _KEY, sorted(newest)))
            stored_times = {(row[0], row[1]): row[2] for row in await connection.execute(query)}
            missing = [
                one
                for key, one in sorted(newest.items())
                if key not in stored_times or stored_times[key] < one.erased_at
            ]
            if missing:
                await _UPSERT.execute(connection, [one._asdict() for one in missing])
        return len(missing)

    async def hash_keys(self) -> Mapping[str, str]:
        async with self._database.read_transaction() as connection:
            return await find_ciphertexts(connection, self._encryption)

    async def learn_hash_keys(self, ciphertexts: Mapping[str, str]) -> int:
        async with self._database.transaction() as connection:
            known_ids = await find_ciphertexts(connection, self._encryption)
            missing_ids = sorted(ciphertexts.keys() - known_ids.keys())
            for key_id in missing_ids:
                await add_ciphertext(connection, self._encryption, ciphertexts[key_id])
        return len(missing_ids)

    async def unused_hash_keys(self) -> Sequence[str]:
        _, *other_ids = await self.hash_keys() or [""]
        if not other_ids:
            return []
        used_ids = {row[0] for row in await self._database.rows(select(erased_learners.c.hash_key_id).distinct())}
        return [key_id for key_id in other_ids if key_id not in used_ids]

    async def forget_hash_key(self, hash_key_id: str) -> None:
        async with self._database.transaction() as connection:
            await delete_key(connection, self._encryption, hash_key_id)

    async def list_due(self, limit: int) -> Sequence[ErasedLearner]:
        async with self._database.read_transaction() as connection:
            rows = await self._due_rows(connection, limit)
            if not rows and self._due_after > _START:
                self._due_after = _START
                rows = await self._due_rows(connection, limit)
        return [_to_erased(row) for row in rows]

    async def _due_rows(self, connection: AsyncConnection, limit: int) -> Sequence[Any]:
        """The next due rows. Starting at the first row each time would read all published ones again."""
        await prefer_index_order(connection)
        await prefer_lookups(connection)
        is_dirty = (_DIRTY_KEY[0] == _KEY[0]) & (_DIRTY_KEY[1] == _KEY[1])
        query = select(erased_learners).join_from(dirty_erasures, erased_learners, is_dirty).order_by(*_DIRTY_KEY)
        rows = (await connection.execute(query.where(tuple_(*_DIRTY_KEY) > self._due_after).limit(limit))).all()
        if rows:
            self._due_after = (rows[-1].account_id, rows[-1].learner_hash)
        return rows

    async def mark_published(self, erased: Sequence[ErasedLearner]) -> None:
        if erased:
            async with self._database.transaction() as connection:
                await connection.execute(_DELETE_DIRTY, _parameters(erased))

    async def mark_dirty(self, keys: Sequence[tuple[str, str]]) -> None:
        if not keys:
            return
        async with self._database.transaction() as connection:
            query = select(erased_learners).where(in_pairs(connection, _KEY, keys))
            await _mark_dirty(connection, (await connection.execute(query)).all())

    async def list_expired(self, before: datetime, limit: int) -> Sequence[ErasedLearner]:
        age = erased_learners.c.erased_at
        query = select(erased_learners).where(age < before).order_by(age).limit(limit)
        return [_to_erased(row) for row in await self._database.rows(query)]

    async def forget(self, erased: Sequence[ErasedLearner]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_DELETE_DIRTY, _parameters(erased))
            await connection.execute(_DELETE, _parameters(erased))

    async def count_published(self) -> int:
        async with self._database.read_transaction() as connection:
            counts = [
                await connection.scalar(select(func.count()).select_from(table))
                for table in (erased_learners, dirty_erasures)
            ]
        return max((counts[0] or 0) - (counts[1] or 0), 0)

    async def wait_for_changes(self) -> None:
        await self._watch.wait()

    async def is_published(self, account_id: str, learner_hash: str) -> bool:
        columns = dirty_erasures.c
        is_row = (columns.account_id == account_id) & (columns.learner_hash == learner_hash)
        return await self._database.row(select(columns.erased_at).where(is_row)) is None


async def store_erased(connection: AsyncConnection, erased: ErasedLearner) -> None:
    """Store an erasure that must be on the topic, unless the learner has a later one."""
    await _UPSERT.execute(connection, [erased._asdict()])
    await _mark_dirty(connection, [erased])


async def _mark_dirty(connection: AsyncConnection, rows: Sequence[Any]) -> None:
    values = [
        {"account_id": row.account_id, "learner_hash": row.learner_hash, "erased_at": row.erased_at} for row in rows
    ]
    if values:
        await _UPSERT_DIRTY.execute(connection, values)


def _to_erased(row: Any) -> ErasedLearner:
    return ErasedLearner(row.account_id, row.learner_hash, row.hash_key_id, row.erased_at)


def _parameters(erased: Sequence[ErasedLearner]) -> list[dict[str, Any]]:
    # In the order of their keys, as every transaction locks them.
    return [{"who": one.account_id, "what": one.learner_hash, "when": one.erased_at} for one in sorted(erased)]


def _if_later(table: Any) -> Callable[[Any], Any]:
    """An insert that replaces a row by a later one."""

    def on_conflict(statement: Any) -> Any:
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={column.name: statement.excluded[column.name] for column in table.c if not column.primary_key},
            where=statement.excluded.erased_at > table.c.erased_at,
        )

    return on_conflict


_UPSERT = BulkInsert(erased_learners, _if_later(erased_learners))
_UPSERT_DIRTY = BulkInsert(dirty_erasures, _if_later(dirty_erasures))
_DELETE_DIRTY = delete(dirty_erasures).where(
    dirty_erasures.c.account_id == bindparam("who"),
    dirty_erasures.c.learner_hash == bindparam("what"),
    dirty_erasures.c.erased_at <= bindparam("when"),
)
_DELETE = delete(erased_learners).where(
    _KEY[0] == bindparam("who"), _KEY[1] == bindparam("what"), erased_learners.c.erased_at == bindparam("when")
)
