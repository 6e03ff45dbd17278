"""Erase a learner: all of the learner's data in the database, and in records that arrive later."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from streams.core.erasures.erasure import Erasure
from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.events.event_data import is_storable
from streams.core.limits import MAX_TEXT_CHARACTERS
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_trail import new_entry
from streams.features.shared.publication import wait_until_published
from streams.ids import new_id
from streams.ports.runtime import Clock
from streams.ports.storage import ErasurePublication, Erasures
from streams.topics import TopicRetention

# A request waits this long for the end of its erasure. `maintain` finishes a longer one.
FINISH_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """An erasure. If `propagated`, it is on its topic: two seconds later `deliver` begins no request of the learner."""

    erasure: Erasure
    propagated: bool


@dataclass
class LearnerService:
    """`actor` is the caller, for the audit log; `topics` keep the learner's records until their retention."""

    _accounts: SqlAccounts
    _erasures: Erasures
    _status: ErasurePublication
    topics: Sequence[TopicRetention]
    _clock: Clock

    def check(self, learner_id: str) -> None:
        """Raise `Invalid` for a string that cannot be a learner's id."""
        if not (0 < len(learner_id) <= MAX_TEXT_CHARACTERS and is_storable(learner_id)):
            limits = f"must be a text of 1 to {MAX_TEXT_CHARACTERS} characters, without the character NUL"
            raise Invalid(FieldError("learnerId", limits))

    async def start(self, account_id: str, learner_id: str, *, actor: str) -> Erasure:
        """Begin an erasure. It covers everything until now, whenever the records arrive.

        A second erasure covers everything since the first. Raises `Invalid`.
        """
        self.check(learner_id)
        if await self._accounts.find(account_id) is None:
            raise Invalid(FieldError("accountId", f"there is no account {account_id}"))
        hash_key_id, learner_hash = await self._erasures.hash_learner(account_id, learner_id)
        now = self._clock.now()
        erasure = Erasure(new_id("ers"), account_id, learner_hash, now, now, actor)
        # The audit log must not contain the id again.
        audit_entry = new_entry(self._clock, actor, "learner.erased", erasure.id, account_id, learner_hash=learner_hash)
        return await self._erasures.start(erasure, hash_key_id, learner_id, audit_entry)

    async def finish(self, erasure: Erasure, seconds: float | None = None) -> Erasure:
        """Erase portion by portion until the end, or for some seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds if seconds is not None else float("inf")
        while not erasure.is_finished and loop.time() < deadline:
            erasure = await self._erasures.do_next_portion(erasure.id)
        return erasure

    async def wait_until_published(self, erasure: Erasure) -> ErasureResult:
        """Wait up to two seconds until the erasure is on its topic. If it is not, it stays due."""
        return ErasureResult(erasure, await wait_until_published(lambda: self._is_published(erasure)))

    async def erase(self, account_id: str, learner_id: str, *, actor: str) -> ErasureResult:
        """Begin an erasure, and wait some seconds until it is finished and on its topic. Raises `Invalid`."""
        erasure = await self.start(account_id, learner_id, actor=actor)
        return await self.wait_until_published(await self.finish(erasure, FINISH_WAIT_SECONDS))

    async def find(self, erasure_id: str, account_id: str | None = None) -> ErasureResult:
        """Find an erasure. Raises `NotFound`."""
        erasure = await self._erasures.find(erasure_id)
        if erasure is None or account_id not in (None, erasure.account_id):
            raise NotFound(f"there is no erasure {erasure_id}")
        return ErasureResult(erasure, await self._is_published(erasure))

    async def _is_published(self, erasure: Erasure) -> bool:
        return await self._status.is_published(erasure.account_id, erasure.learner_hash)
