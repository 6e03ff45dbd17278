"""The encrypted keys of the hashes of learners."""

from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.tables.erasures import erasures, learner_hash_key
from streams.core.encryption import WrongKeys
from streams.core.erasures.erasure import hash_key_id, key_from_text, key_to_text
from streams.core.errors import InvalidRecord
from streams.ports.delivery import Encryption

_OWN_ROW = 1
_SELECT_OWN = select(learner_hash_key.c.ciphertext).where(learner_hash_key.c.id == _OWN_ROW)
_SELECT_ALL = select(learner_hash_key.c.id, learner_hash_key.c.ciphertext).order_by(learner_hash_key.c.id)


async def find_keys(connection: AsyncConnection, encryption: Encryption) -> list[bytes]:
    """All keys, this database's own key first; none before the first erasure. Raises `WrongKeys`."""
    return [_decrypt_key(row.ciphertext, encryption) for row in await connection.execute(_SELECT_ALL)]


async def find_ciphertexts(connection: AsyncConnection, encryption: Encryption) -> Mapping[str, str]:
    """The encrypted keys by id, this database's own key first. Raises `WrongKeys`."""
    rows = (await connection.execute(_SELECT_ALL)).all()
    return {hash_key_id(_decrypt_key(row.ciphertext, encryption)): row.ciphertext for row in rows}


async def ensure_key(connection: AsyncConnection, encryption: Encryption, new_key: bytes) -> bytes:
    """This database's own key, which is `new_key` if there was none. Raises `WrongKeys`."""
    ciphertext = encryption.encrypt(key_to_text(new_key))
    insertion = insert(learner_hash_key).values(id=_OWN_ROW, ciphertext=ciphertext)
    await connection.execute(insertion.on_conflict_do_nothing())
    return _decrypt_key((await connection.execute(_SELECT_OWN)).scalar_one(), encryption)


async def add_ciphertext(connection: AsyncConnection, encryption: Encryption, ciphertext: str) -> None:
    """Add the key of another database. Raises `WrongKeys`."""
    _decrypt_key(ciphertext, encryption)
    newest_id = await connection.scalar(select(func.max(learner_hash_key.c.id)))
    await connection.execute(
        learner_hash_key.insert().values(id=max(newest_id or 0, _OWN_ROW) + 1, ciphertext=ciphertext)
    )


async def delete_key(connection: AsyncConnection, encryption: Encryption, key_id: str) -> None:
    """Delete the key of another database; this database's own key stays. Raises `WrongKeys`."""
    for row in (await connection.execute(_SELECT_ALL)).all():
        if row.id != _OWN_ROW and hash_key_id(_decrypt_key(row.ciphertext, encryption)) == key_id:
            await connection.execute(delete(learner_hash_key).where(learner_hash_key.c.id == row.id))


async def reencrypt_learners(connection: AsyncConnection, encryption: Encryption) -> None:
    """Encrypt the keys, and the learners of running erasures, with the newest key. Raises `InvalidRecord`.

    `publish` writes each key to the topic again, because its ciphertext differs.
    """
    for row in (await connection.execute(_SELECT_ALL.with_for_update())).all():
        ciphertext = encryption.reencrypt(row.ciphertext)
        is_row = learner_hash_key.c.id == row.id
        await connection.execute(learner_hash_key.update().where(is_row).values(ciphertext=ciphertext))
    columns = erasures.c
    running = select(columns.id, columns.encrypted_learner).where(columns.finished_at.is_(None)).with_for_update()
    for row in (await connection.execute(running)).all():
        values = {"encrypted_learner": encryption.reencrypt(row.encrypted_learner)}
        await connection.execute(erasures.update().where(columns.id == row.id).values(values))


def _decrypt_key(ciphertext: str, encryption: Encryption) -> bytes:
    try:
        return key_from_text(encryption.decrypt(ciphertext))
    except InvalidRecord:
        # This is not the fault of the current record or request, which waits for the right keys.
        raise WrongKeys from None
