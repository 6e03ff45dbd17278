"""The learners who were erased, kept in memory: no delivery waits for the database."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

from streams.adapters.driver_queries import DRIVER_ERRORS, TIMEOUT_SECONDS, Queries, queries_of
from streams.core.delivery import Delivery
from streams.core.erasure import is_erased, learner_hash
from streams.core.errors import InvalidRecord
from streams.core.event import subjects_of
from streams.outage import DATABASE, Outages
from streams.ports import Encryption

REFRESH_INTERVAL_SECONDS = 1.0
# An erasure may be committed a while after its time, and clocks differ.
QUERY_OVERLAP = timedelta(minutes=5)
_SELECT_KEY = "SELECT ciphertext FROM learner_hash_key"
_SELECT_ERASURES = "SELECT account_id, learner_hash, erased_at FROM erasures WHERE erased_at > ?"
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class SqlErasedLearners:
    """An `ErasedLearners`. While the database is away it knows the erasures until then."""

    def __init__(self, queries: Queries | None, encryption: Encryption, outages: Outages) -> None:
        self._queries = queries
        self._encryption = encryption
        self._database = outages[DATABASE]
        self._key: bytes | None = None
        self._newest_at = _EARLIEST
        # By account and hash, the time of the last erasure.
        self._erased_at: dict[str, dict[str, datetime]] = {}

    def covers(self, delivery: Delivery) -> bool:
        erased_by_hash = self._erased_at.get(delivery.account_id)
        if not erased_by_hash or self._key is None:
            return False
        learner_id = subjects_of(delivery.body).learner_id
        if learner_id is None:
            return False
        erased_at = erased_by_hash.get(learner_hash(self._key, delivery.account_id, learner_id))
        return is_erased(erased_at, delivery.first_seen_at, delivery.body)

    async def run(self) -> None:
        """Read new erasures every second, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the erasures since the last call. An outage is logged."""
        if self._queries is None:
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._read(self._queries)
        except (TimeoutError, InvalidRecord, *DRIVER_ERRORS) as error:
            self._database.begin(self, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        else:
            self._database.end(self)

    async def _read(self, queries: Queries) -> None:
        rows = await queries.rows(_SELECT_ERASURES, [queries.to_time_parameter(self._newest_at - QUERY_OVERLAP)])
        if not rows:
            return
        # A database that was restored may have another key.
        [(ciphertext,)] = await queries.rows(_SELECT_KEY)
        self._key = base64.b64decode(self._encryption.decrypt(ciphertext))
        for account_id, stored_hash, erased_at in rows:
            self._add(account_id, stored_hash, _to_utc(erased_at))

    def _add(self, account_id: str, stored_hash: str, erased_at: datetime) -> None:
        erased_by_hash = self._erased_at.setdefault(account_id, {})
        erased_by_hash[stored_hash] = max(erased_at, erased_by_hash.get(stored_hash, erased_at))
        self._newest_at = max(self._newest_at, erased_at)


def _to_utc(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def erased_learners(
    url: str, encryption: Encryption, outages: Outages, behind_pooler: bool = False
) -> SqlErasedLearners:
    """The erased learners in the database at `url`, a `DATABASE_URL`. Raises `Misconfigured`."""
    return SqlErasedLearners(queries_of(url, behind_pooler), encryption, outages)
