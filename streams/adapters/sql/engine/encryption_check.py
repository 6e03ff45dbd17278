"""Check the encryption keys of this process: one of them must decrypt a text in SQL."""

import asyncio

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.encryption import FernetEncryption
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.erasures.learner_hash import reencrypt_learners
from streams.adapters.sql.tables.deliveries import encryption_check, webhooks
from streams.core.encryption import CHECK_TEXT, WRONG_KEYS_MESSAGE, WrongKeys
from streams.core.errors import Unavailable
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages

CHECK_INTERVAL_SECONDS = 5.0
_ONLY_ROW = 1
_SELECT_CHECK = select(encryption_check.c.ciphertext)


class SqlEncryptionCheck:
    """An `EncryptionCheck`. The first process writes the text, encrypted with its first key."""

    def __init__(self, database: Database, encryption: FernetEncryption) -> None:
        self._database = database
        self._encryption = encryption
        self._problem: str | None = "the encryption keys are not checked yet"

    async def require_right_keys(self) -> str:
        # The text nearly always exists, and reading it needs no write lock.
        ciphertext = await self._database.scalar(_SELECT_CHECK)
        if ciphertext is not None:
            return self._require_decryptable(ciphertext)
        async with self._database.transaction() as connection:
            return await self.verify_in(connection)

    async def verify_in(self, connection: AsyncConnection) -> str:
        """The same check within a transaction, so that it stores nothing that other processes cannot decrypt."""
        ciphertext = (await connection.execute(_SELECT_CHECK)).scalar_one_or_none()
        if ciphertext is None:
            await self._require_readable_secrets(connection)
            insertion = insert(encryption_check).values(id=_ONLY_ROW, ciphertext=self._encryption.encrypt(CHECK_TEXT))
            await connection.execute(insertion.on_conflict_do_nothing())
            ciphertext = (await connection.execute(_SELECT_CHECK)).scalar_one()
        return self._require_decryptable(ciphertext)

    def _require_decryptable(self, ciphertext: str) -> str:
        if not self._encryption.is_valid_check_text(ciphertext):
            self._problem = WRONG_KEYS_MESSAGE
            raise WrongKeys
        self._problem = None
        return ciphertext

    async def _require_readable_secrets(self, connection: AsyncConnection) -> None:
        """Raise `WrongKeys` if this process cannot decrypt a stored secret: it must not write the text."""
        query = select(webhooks.c.secrets).where(webhooks.c.deleted_at.is_(None)).limit(1)
        secrets = (await connection.execute(query)).scalar_one_or_none()
        if secrets and not any(self._encryption.can_decrypt(secret["ciphertext"]) for secret in secrets):
            self._problem = WRONG_KEYS_MESSAGE
            raise WrongKeys

    async def reencrypt(self) -> None:
        async with self._database.transaction() as connection:
            await self.verify_in(connection)
            await reencrypt_learners(connection, self._encryption)
            await connection.execute(encryption_check.update().values(ciphertext=self._encryption.encrypt(CHECK_TEXT)))

    async def watch(self, outages: Outages) -> None:
        """Check every few seconds, for `problems`, until cancelled."""
        while True:
            await outages.retry(self._check, CHECK_INTERVAL_SECONDS, ENCRYPTION_KEYS, DATABASE)
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)

    async def _check(self) -> None:
        try:
            await self.require_right_keys()
        except Unavailable as error:
            self._problem = str(error)
            raise

    def problems(self) -> list[str]:
        """Why this process cannot read and write secrets."""
        return [self._problem] if self._problem else []
