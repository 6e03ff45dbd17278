"""The key of the hashes of learners, encrypted in one row."""

import base64

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.dialects import insert
from streams.adapters.sql.erasure_tables import erasures, learner_hash_key
from streams.core.encryption import WrongKeys
from streams.core.errors import InvalidRecord
from streams.ports import Encryption

_ONLY_ROW = 1
_SELECT_KEY = select(learner_hash_key.c.ciphertext)


async def find_key(connection: AsyncConnection, encryption: Encryption) -> bytes | None:
    """The key; None before the first erasure. Raises `WrongKeys`."""
    ciphertext = (await connection.execute(_SELECT_KEY)).scalar_one_or_none()
    return None if ciphertext is None else _decrypt_key(ciphertext, encryption)


async def ensure_key(connection: AsyncConnection, encryption: Encryption, new_key: bytes) -> bytes:
    """The key, which is `new_key` if there was none. Raises `WrongKeys`."""
    ciphertext = encryption.encrypt(base64.b64encode(new_key).decode())
    insertion = insert(learner_hash_key).values(id=_ONLY_ROW, ciphertext=ciphertext)
    await connection.execute(insertion.on_conflict_do_nothing())
    return _decrypt_key((await connection.execute(_SELECT_KEY)).scalar_one(), encryption)


async def reencrypt_learners(connection: AsyncConnection, encryption: Encryption) -> None:
    """Encrypt the key, and the learners of running erasures, with the newest key. Raises `InvalidRecord`."""
    ciphertext = (await connection.execute(_SELECT_KEY.with_for_update())).scalar_one_or_none()
    if ciphertext is not None:
        await connection.execute(learner_hash_key.update().values(ciphertext=encryption.reencrypt(ciphertext)))
    columns = erasures.c
    running = select(columns.id, columns.encrypted_learner).where(columns.finished_at.is_(None)).with_for_update()
    for row in (await connection.execute(running)).all():
        values = {"encrypted_learner": encryption.reencrypt(row.encrypted_learner)}
        await connection.execute(erasures.update().where(columns.id == row.id).values(values))


def _decrypt_key(ciphertext: str, encryption: Encryption) -> bytes:
    try:
        return base64.b64decode(encryption.decrypt(ciphertext))
    except InvalidRecord:
        # Not the fault of the record or the request at hand: it waits for the right keys.
        raise WrongKeys from None
