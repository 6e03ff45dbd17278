"""publish: write the erased learners of SQL to `erasures`, as its only writer."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from streams.core.erasures.erasure import ErasedLearner
from streams.core.erasures.erasure_record import (
    decode_erasure_record,
    encode_erasure,
    encode_hash_key,
    encode_version,
    erasure_key,
    hash_key_key,
    parse_erasure_key,
    parse_hash_key_key,
)
from streams.core.erasures.erasures_table import ErasuresTable
from streams.core.errors import InvalidRecord, Unavailable
from streams.core.failed_work import WorkKind
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages, Result
from streams.ports.kafka import Outgoing, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import ErasureHistory, ErasureOutbox
from streams.stages.postponed_work import PostponedWork
from streams.topics import ERASURE_RETENTION, ERASURES

RETRY_SECONDS = 1.0
_START = ("", "")


@dataclass(frozen=True, slots=True)
class ErasureReconcileResult:
    """The result of a reconciliation: the erasures that SQL learned from the topic, and those that were published."""

    learned: int
    published: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishErasuresPacing:
    """How much is published at once, and how often."""

    batch_erasures: int = 500
    sentinel_interval_seconds: float = 10.0
    # After a change of the encryption keys, which encrypts the keys of the hashes again.
    keys_interval_seconds: float = 10.0
    compare_interval_seconds: float = 60.0
    forget_interval_seconds: float = 3600.0


class PublishErasures:
    """Publishes each erasure: key of its hash → acknowledged → erasure → acknowledged → no longer due → sentinel.

    After a restore of an older dump, SQL learns missing erasures from the topic. An erasure is removed from the topic
    only when no other topic can still have the learner's data. It runs while its process holds the lease of `publish`.
    """

    def __init__(
        self,
        outbox: ErasureOutbox,
        history: ErasureHistory,
        producer: RecordProducer,
        telemetry: Telemetry,
        clock: Clock,
        new_incarnation: Callable[[], str],
        outages: Outages,
        postponed_work: PostponedWork,
        pacing: PublishErasuresPacing = PublishErasuresPacing(),
    ) -> None:
        self._postponed_work = postponed_work
        self._outbox = outbox
        self._history = history
        self._producer = producer
        self._telemetry = telemetry
        self._clock = clock
        self._new_incarnation = new_incarnation
        self._outages = outages
        self._pacing = pacing
        self._hash_key_ids: Collection[str] = ()
        self._sentinel: Sentinel | None = None
        self._incarnation = ""
        self._is_sentinel_due = True
        self._sentinel_written_at = self._compared_at = self._forget_at = self._check_keys_at = 0.0
        self._compared_learner, self._compared_count = _START, 0

    async def run(self, topic: ErasuresTable) -> None:
        """Publish until cancelled, after comparing the topic with SQL."""
        await self._retry(lambda: self._begin(topic))
        while True:
            if await self._retry(lambda: self._publish_once(topic)) == 0:
                with suppress(Unavailable):  # The next step logs it.
                    await self._outbox.wait_for_changes()

    async def reconcile(self, topic: ErasuresTable) -> ErasureReconcileResult:
        """Let SQL learn from the topic, and the topic from SQL, once."""
        learned_count, count_published = await self._begin(topic), 0
        while count := await self.publish_due(topic):
            count_published += count
        return ErasureReconcileResult(learned_count, count_published)

    async def _retry(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Wait until the database is available and this process's keys fit."""
        return await self._outages.retry(step, RETRY_SECONDS, ENCRYPTION_KEYS, DATABASE)

    async def _begin(self, topic: ErasuresTable) -> int:
        """Compare SQL with the whole topic. Returns how many erasures SQL learned."""
        await self._outbox.learn_hash_keys(topic.ciphertexts)
        self._compared_learner, self._compared_count = _START, 0
        learned_count: int | None = None
        while learned_count is None:
            learned_count = await self._compare_next(topic)
        self._compared_at = self._sentinel_written_at = asyncio.get_running_loop().time()
        # A sentinel that counts more learners was left by a publisher that had not noticed a re-created topic.
        self._sentinel = topic.sentinel if topic.is_complete() else None
        self._incarnation = self._sentinel.incarnation if self._sentinel else self._new_incarnation()
        return learned_count

    async def _publish_once(self, topic: ErasuresTable) -> int:
        await self._republish_overwritten(topic)
        now = asyncio.get_running_loop().time()
        if now - self._compared_at >= self._pacing.compare_interval_seconds:
            self._compared_at = now
            await self._compare_next(topic)
        return await self.publish_due(topic) + await self._forget_expired()

    async def publish_due(self, topic: ErasuresTable) -> int:
        """Publish the erasures that are due, at most one batch. Returns how many.

        An erasure whose row is wrong stays due, does not stop the others, and is tried again later.
        """
        due, now = await self._outbox.list_due(self._pacing.batch_erasures), asyncio.get_running_loop().time()
        if due or now >= self._check_keys_at:
            # Keys first: an erasure is useful only with the key of its hash.
            await self._publish_hash_keys(topic)
            self._check_keys_at = now + self._pacing.keys_interval_seconds
        published, outgoing = await self._encode_due(due, topic)
        if published:
            await self._producer.produce(outgoing)
            await self._outbox.mark_published(published)
            self._telemetry.count("erasures_published_total", len(published))
            self._is_sentinel_due = True
        # The first sentinel of an incarnation means that all erasures are there, so it comes after the last of them.
        if self._sentinel is not None or not published:
            await self._write_sentinel(topic)
        return len(published)

    async def _encode_due(
        self, due: Sequence[ErasedLearner], topic: ErasuresTable
    ) -> tuple[Sequence[ErasedLearner], Sequence[Outgoing]]:
        """The erasures that can be published, and their records: none if the topic has a later erasure."""
        published, outgoing = list[ErasedLearner](), list[Outgoing]()
        for erased in due:
            work_id = erasure_key(erased.account_id, erased.learner_hash)
            if not self._postponed_work.is_due(WorkKind.ERASURE, work_id):
                continue
            async with self._postponed_work.unit(WorkKind.ERASURE, work_id, erased.account_id):
                if not _is_superseded(erased, topic):
                    outgoing.append(self._encode(erased))
                published.append(erased)
        return published, outgoing

    async def _publish_hash_keys(self, topic: ErasuresTable) -> None:
        """Publish each key that the topic lacks, or has encrypted with another encryption key."""
        keys = await self._outbox.hash_keys()
        self._hash_key_ids = keys.keys()
        for key_id, ciphertext in keys.items():
            if topic.ciphertexts.get(key_id) != ciphertext:
                await self._producer.produce(
                    [Outgoing(ERASURES, hash_key_key(key_id).encode(), encode_hash_key(ciphertext))]
                )

    def _encode(self, erased: ErasedLearner) -> Outgoing:
        """The erasure's record. Raises `InvalidRecord` for a record that `deliver` would refuse and wait for."""
        key, value = erasure_key(erased.account_id, erased.learner_hash), encode_erasure(erased)
        outgoing = Outgoing(ERASURES, key.encode(), value)
        decode_erasure_record(outgoing.key, outgoing.value, ())
        if erased.hash_key_id not in self._hash_key_ids:
            raise InvalidRecord(f"the key of its hash, {erased.hash_key_id!r}, is missing")
        return outgoing

    async def _write_sentinel(self, topic: ErasuresTable) -> None:
        """Produce the sentinel, the first one at once. It may count fewer learners than there are, but never more.

        A sentinel of another publisher is replaced. That publisher was frozen, and may count more learners.
        """
        now = asyncio.get_running_loop().time()
        is_recent = now - self._sentinel_written_at < self._pacing.sentinel_interval_seconds
        is_due = self._is_sentinel_due or topic.sentinel != self._sentinel
        if self._sentinel is not None and (is_recent or not is_due):
            return
        await self._produce_sentinel(await self._outbox.count_published())
        self._sentinel_written_at, self._is_sentinel_due = now, False

    async def _produce_sentinel(self, live_count: int) -> datetime:
        """Produce a sentinel. Returns the broker's time."""
        sentinel = Sentinel(self._incarnation, live_count)
        [appended_at] = await self._producer.produce([Outgoing(ERASURES, SENTINEL_KEY.encode(), sentinel.encode())])
        self._sentinel = sentinel
        return appended_at

    async def _republish_overwritten(self, topic: ErasuresTable) -> None:
        """Publish again the erasures that another writer overwrote, such as an old publisher after a long freeze."""
        if not topic.outdated_ids:
            return
        overwritten = sorted(topic.outdated_ids)
        self._telemetry.warning("another_writer_on_erasures", records=len(overwritten))
        await self._outbox.mark_dirty([key for name in overwritten if (key := parse_erasure_key(name))])
        for name in overwritten:
            topic.ciphertexts.pop(parse_hash_key_key(name) or "", None)
        if SENTINEL_KEY in overwritten:
            self._sentinel = None
        topic.outdated_ids.difference_update(overwritten)

    async def _compare_next(self, topic: ErasuresTable) -> int | None:
        """Compare another portion with the topic. At the end, store those that only the topic has. Returns how many."""
        page = await self._outbox.reconcile_next(self._compared_learner, partial(_time_on_topic, topic))
        self._compared_count += page.on_topic_count
        if page.last_learner is not None:
            self._compared_learner = page.last_learner
            return None
        is_all_known = self._compared_count >= len(topic)
        self._compared_learner, self._compared_count = _START, 0
        return 0 if is_all_known else await self._learn(topic)

    async def _learn(self, topic: ErasuresTable) -> int:
        """Read the topic again, portion by portion, because the table has no whole keys."""
        await self._outbox.learn_hash_keys(topic.ciphertexts)
        learned_count, offset = 0, 0
        while True:
            erased, next_offset = await self._history.read(offset)
            learned_count += await self._outbox.learn(
                [one for one in erased if _time_on_topic(topic, one.learner_hash) == one.erased_at]
            )
            if next_offset is None:
                break
            offset = next_offset
        if learned_count:
            # After a restore from an older dump.
            self._telemetry.warning("erasures_learned", erasures=learned_count)
        return learned_count

    async def _forget_expired(self) -> int:
        """Delete erasures, a portion at a time, if no record on a topic can name their learners any more."""
        now = asyncio.get_running_loop().time()
        if self._sentinel is None or now < self._forget_at:
            return 0
        broker_time = await self._produce_sentinel(self._sentinel.live)
        # Use the slower of two clocks: one that is years ahead must not make it forget everything.
        cutoff = min(broker_time, self._clock.now()) - ERASURE_RETENTION
        expired = await self._outbox.list_expired(cutoff, self._pacing.batch_erasures)
        if expired:
            # First a sentinel without them, so that a process that starts now finds as many as it counts.
            await self._produce_sentinel(max(await self._outbox.count_published() - len(expired), 0))
            await self._producer.produce([_to_tombstone(erased) for erased in expired])
            await self._outbox.forget(expired)
            self._is_sentinel_due = True
            return len(expired)
        for key_id in await self._outbox.unused_hash_keys():
            await self._producer.produce([Outgoing(ERASURES, hash_key_key(key_id).encode(), None)])
            await self._outbox.forget_hash_key(key_id)
        self._forget_at = now + self._pacing.forget_interval_seconds
        return 0


def _time_on_topic(topic: ErasuresTable, learner_hash: str) -> datetime | None:
    """When the learner was erased, according to the topic; None if this is not a hash, which cannot be there."""
    try:
        return topic.time_of(bytes.fromhex(learner_hash))
    except ValueError:
        return None


def _is_superseded(erased: ErasedLearner, topic: ErasuresTable) -> bool:
    """Whether the topic has a later erasure of the learner: a restored SQL learns it at the next comparison.

    Raises `ValueError` if this is not a hash.
    """
    time = topic.time_of(bytes.fromhex(erased.learner_hash))
    return time is not None and time > erased.erased_at


def _to_tombstone(erased: ErasedLearner) -> Outgoing:
    key = erasure_key(erased.account_id, erased.learner_hash)
    return Outgoing(ERASURES, key.encode(), None, (encode_version(erased.erased_at),))
