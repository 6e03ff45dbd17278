"""publish: write the webhooks of SQL to `subscriptions`, as its only writer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from streams.core.errors import ROW_ERRORS, RecordsRefused, Unavailable
from streams.core.failed_work import WorkKind, error_text
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.subscription_record import decode_record
from streams.core.webhooks.subscriptions_table import SubscriptionsTable
from streams.core.webhooks.webhook import Webhook
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages, Result
from streams.ports.delivery import EncryptionCheck
from streams.ports.kafka import Codec, Outgoing, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.webhooks import DueChange, FailedChange, Outbox
from streams.stages.lease import LeaseKeeper
from streams.stages.postponed_work import PostponedWork
from streams.topics import SUBSCRIPTIONS

RETRY_SECONDS = 1.0


# Whether these webhooks may be deleted from the topic.
ConfirmDeletion = Callable[[Sequence[Webhook]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The result of a reconciliation: webhooks published, webhooks deleted from the topic, unknown ones left there."""

    published: int
    deleted: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPacing:
    """How much is published at once, and how often."""

    batch_webhooks: int = 500
    sentinel_interval_seconds: float = 10.0
    compare_interval_seconds: float = 60.0


class Publish:
    """Publishes each dirty webhook: produce its state → acknowledged → not dirty, if its version is still the same.

    It runs while its process holds the lease. `new_incarnation` makes an id for a topic without a sentinel.
    """

    def __init__(
        self,
        outbox: Outbox,
        lease: LeaseKeeper,
        producer: RecordProducer,
        codec: Codec,
        telemetry: Telemetry,
        keys: EncryptionCheck,
        clock: Clock,
        new_incarnation: Callable[[], str],
        outages: Outages,
        postponed_work: PostponedWork,
        pacing: PublishPacing = PublishPacing(),
    ) -> None:
        self._outbox = outbox
        self._postponed_work = postponed_work
        self._lease = lease
        self._producer = producer
        self._codec = codec
        self._telemetry = telemetry
        self._keys = keys
        self._clock = clock
        self._check: str | None = None
        self._new_incarnation = new_incarnation
        self._live_ids: set[str] = set()
        self._sentinel: Sentinel | None = None
        # Webhooks that could not be published, each with the version that failed.
        self._refused: dict[str, int] = {}
        self._sentinel_written_at = self._last_compared_at = 0.0
        self._incarnation = self._last_compared_id = ""
        self._outages = outages
        self._pacing = pacing

    async def run(self, topic: SubscriptionsTable) -> None:
        """Publish until cancelled, after comparing the topic with SQL."""
        await self._retry(lambda: self._begin(topic))
        while True:
            if await self._retry(lambda: self._publish_once(topic)) == 0:
                with suppress(Unavailable):  # The next step logs it.
                    await self._outbox.wait_for_changes()

    async def reconcile(self, topic: SubscriptionsTable, confirm_deletion: ConfirmDeletion) -> ReconcileResult:
        """Make the topic the same as SQL, once. `confirm_deletion` is asked about webhooks that SQL does not know.

        A person may take a while to answer: keep the lease meanwhile. Earlier attempts no longer count for any
        webhook's health, because `record` may read them again.
        """
        await self._outbox.restart_health()
        unknown_ids = await self._begin(topic)
        unknown_webhooks = [webhook for name in unknown_ids if (webhook := topic.find(name)) is not None]
        deleted_ids = unknown_ids if unknown_webhooks and await confirm_deletion(unknown_webhooks) else ()
        await self._lease.check()
        versions = topic.versions()
        await self._producer.produce([_to_outgoing(name, versions[name] + 1) for name in deleted_ids])
        self._live_ids -= set(deleted_ids)
        count_published = 0
        while count := await self.publish_due():
            count_published += count
        return ReconcileResult(count_published, len(deleted_ids), len(unknown_ids) - len(deleted_ids))

    async def _publish_once(self, topic: SubscriptionsTable) -> int:
        await self._republish_overwritten(topic)
        return await self.publish_due()

    async def _republish_overwritten(self, topic: SubscriptionsTable) -> None:
        """Publish again the webhooks that another writer overwrote, such as an old publisher after a long freeze."""
        if topic.outdated_ids:
            overwritten_versions = {
                webhook_id: topic.newest_version(webhook_id) for webhook_id in sorted(topic.outdated_ids)
            }
            self._telemetry.warning("another_writer_on_subscriptions", webhooks=len(overwritten_versions))
            await self._outbox.mark_dirty(overwritten_versions)
            if SENTINEL_KEY in overwritten_versions:
                self._sentinel = None
            # Logged again only if it happens again. A webhook overwritten meanwhile is left for the next check.
            topic.outdated_ids.difference_update(overwritten_versions)
        now = asyncio.get_running_loop().time()
        if now - self._sentinel_written_at >= self._pacing.sentinel_interval_seconds:
            self._check = await self._keys.require_right_keys()
        if now - self._last_compared_at >= self._pacing.compare_interval_seconds:
            self._last_compared_at = now
            async with self._postponed_work.unit(WorkKind.WEBHOOK, "comparison"):
                await self._reconcile_next(topic)

    async def _reconcile_next(self, topic: SubscriptionsTable) -> None:
        """Compare another portion with the topic. Reading every webhook each minute would cost too much."""
        reconcile = partial(self._outbox.reconcile_next, version_of=topic.version_of, tombstones=topic.tombstones)
        ids = await reconcile(self._last_compared_id) or await reconcile("")
        self._last_compared_id = ids[-1] if ids else ""

    async def _retry(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Wait until the database is available and this process's keys fit."""
        return await self._outages.retry(step, RETRY_SECONDS, ENCRYPTION_KEYS, DATABASE)

    async def _begin(self, topic: SubscriptionsTable) -> Sequence[str]:
        # A process with other keys writes nothing.
        self._check = await self._keys.require_right_keys()
        unknown_ids = await self._outbox.reconcile(topic.versions(), topic.tombstones)
        if unknown_ids:
            # After a restore from an older dump. Deleting them needs a person's decision.
            self._telemetry.error("unknown_webhooks_on_subscriptions", count=len(unknown_ids))
        self._live_ids = set(topic.versions())
        # A sentinel that counts more webhooks was left by a publisher that had not noticed a re-created topic.
        self._sentinel = topic.sentinel if topic.is_complete() else None
        self._sentinel_written_at = self._last_compared_at = asyncio.get_running_loop().time()
        self._incarnation = self._sentinel.incarnation if self._sentinel else self._new_incarnation()
        return unknown_ids

    async def publish_due(self) -> int:
        """Publish the webhooks that are due, at most one batch. Returns how many; 0 when there are none.

        A webhook whose row is wrong, or that Kafka refuses, does not stop the others: it stays due, and is tried again
        when it is changed, or later.
        """
        postponed_ids = self._postponed_work.postponed_ids(WorkKind.WEBHOOK)
        self._refused = {name: version for name, version in self._refused.items() if name in postponed_ids}
        failed_changes: list[FailedChange] = []
        changes = await self._outbox.list_due(self._pacing.batch_webhooks, self._refused, failed_changes)
        for failed_change in failed_changes:
            await self._postpone(failed_change, failed_change.error)
        count = len(changes) + len(failed_changes)
        if changes:
            published = await self._publish(changes)
            if published:
                await self._outbox.mark_published(published)
            for change, _ in published:
                await self._postponed_work.note_success(WorkKind.WEBHOOK, change.webhook_id)
                (self._live_ids.discard if change.webhook is None else self._live_ids.add)(change.webhook_id)
            self._telemetry.count("webhooks_published_total", len(published))
        # The first sentinel of an incarnation means that all webhooks are there, so it comes after the last of them.
        if self._sentinel is not None or not count:
            await self._write_sentinel()
        return count

    async def _publish(self, changes: Sequence[DueChange]) -> list[tuple[DueChange, datetime]]:
        """Produce webhooks. Returns those that are acknowledged, with their append times."""
        encoded_changes: list[tuple[DueChange, Outgoing]] = []
        for change in changes:
            try:
                encoded_changes.append((change, self._encode_change(change)))
            except ROW_ERRORS as error:
                await self._postpone(change, error_text(error))
        try:
            append_times = await self._producer.produce([outgoing for _, outgoing in encoded_changes])
        except RecordsRefused as error:
            for index, reason in error.reasons.items():
                await self._postpone(encoded_changes[index][0], reason)
            return [(encoded_changes[index][0], at) for index, at in error.append_times.items()]
        return [(change, at) for (change, _), at in zip(encoded_changes, append_times, strict=True)]

    async def _postpone(self, change: DueChange | FailedChange, reason: str) -> None:
        self._refused[change.webhook_id] = change.version
        account_id = change.account_id if isinstance(change, FailedChange) else _account_of(change)
        await self._postponed_work.postpone(WorkKind.WEBHOOK, change.webhook_id, account_id, reason)

    async def _write_sentinel(self) -> None:
        """Produce the sentinel when it changed, and regularly: stages compare their clocks with it."""
        sentinel, now = Sentinel(self._incarnation, len(self._live_ids), self._check), asyncio.get_running_loop().time()
        if sentinel != self._sentinel or now - self._sentinel_written_at >= self._pacing.sentinel_interval_seconds:
            await self._producer.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), sentinel.encode())])
            self._sentinel, self._sentinel_written_at = sentinel, now

    @invalid_on_failure
    def _encode_change(self, change: DueChange) -> Outgoing:
        """The webhook's record. Raises `InvalidRecord` for a record that the stages would refuse and wait for."""
        value = self._codec.encode(change.webhook) if change.webhook else None
        outgoing = _to_outgoing(change.webhook_id, change.version, value)
        decode_record(outgoing.key, outgoing.value, outgoing.headers, self._clock.now(), self._codec.decode)
        return outgoing


def _account_of(change: DueChange) -> str:
    return change.webhook.account_id if change.webhook else ""


def _to_outgoing(webhook_id: str, version: int, value: bytes | None = None) -> Outgoing:
    """A record of `subscriptions`; without a value it is a tombstone."""
    return Outgoing(SUBSCRIPTIONS, webhook_id.encode(), value, ((VERSION_HEADER, str(version).encode()),))
