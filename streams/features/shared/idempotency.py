"""Store the responses to requests with an Idempotency-Key."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.tables.accounts import idempotency_keys


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request with the same idempotency key; without a status it is still in progress."""

    fingerprint: str
    begun_at: datetime
    status: int | None = None
    encrypted_response: str | None = None


class SqlIdempotencyStore(SqlStorage):
    """Responses to requests with an idempotency key."""

    async def begin(self, caller: str, key: str, fingerprint: str, now: datetime) -> EarlierRequest | None:
        """Claim the key for a request. None if it is the first request with this key."""
        row = {"caller": caller, "key": key, "fingerprint": fingerprint, "begun_at": now}
        statement = insert(idempotency_keys).values(row).on_conflict_do_nothing().returning(idempotency_keys.c.key)
        async with self._database.transaction() as connection:
            while (await connection.execute(statement)).first() is None:
                key_row = (await connection.execute(select(idempotency_keys).where(_is_key(caller, key)))).one_or_none()
                if key_row is not None:  # else it was deleted in between
                    return EarlierRequest(
                        key_row.fingerprint, key_row.begun_at, key_row.status, key_row.encrypted_response
                    )
        return None

    async def finish(self, caller: str, key: str, begun_at: datetime, status: int, encrypted_response: str) -> None:
        """Store the response of the request that began at this time."""
        values = {"status": status, "encrypted_response": encrypted_response}
        async with self._database.transaction() as connection:
            condition = _is_key(caller, key) & (idempotency_keys.c.begun_at == begun_at)
            await connection.execute(update(idempotency_keys).where(condition).values(values))

    async def forget(self, caller: str, key: str, begun_at: datetime) -> None:
        """Release the key, because the request that began at this time did nothing."""
        async with self._database.transaction() as connection:
            condition = _is_key(caller, key) & (idempotency_keys.c.begun_at == begun_at)
            await connection.execute(delete(idempotency_keys).where(condition))


def _is_key(caller: str, key: str) -> ColumnElement[bool]:
    return (idempotency_keys.c.caller == caller) & (idempotency_keys.c.key == key)
