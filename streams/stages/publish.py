"""publish: write the webhooks of SQL to `subscriptions`, as its only writer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from streams.core.errors import InvalidRecord, RecordsRefused, Unavailable
from streams.core.pure import pure
from streams.core.subscription_record import decode_record
from streams.core.subscriptions_table import SENTINEL_KEY, VERSION_HEADER, Sentinel, SubscriptionsTable
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages, Result
from streams.ports import Clock, Codec, DueChange, EncryptionCheck, Outbox, Outgoing, RecordProducer, Telemetry
from streams.stages.lease import LeaseKeeper
from streams.topics import SUBSCRIPTIONS

BATCH_WEBHOOKS = 500
RETRY_SECONDS = 1.0
REPEAT_SENTINEL_SECONDS = 10.0
COMPARE_EVERY_SECONDS = 60.0


# Whether these webhooks may be deleted from the topic.
MayDelete = Callable[[Sequence[str]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The result of a reconciliation: webhooks published, webhooks deleted from the topic, unknown ones left there."""

    published: int
    deleted: int
    left: int


class Publish:
    """Publishes each dirty webhook: produce its state → acknowledged → not dirty, if its version is still the same.

    It runs while its process holds the lease. `new_incarnation` makes an id for a topic without a sentinel. With
    `writes_newest` no process of an older release runs, so that all can read the filters of webhooks.
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
        writes_newest: bool = True,
    ) -> None:
        self._outbox = outbox
        self._writes_newest = writes_newest
        self._lease = lease
        self._producer = producer
        self._codec = codec
        self._telemetry = telemetry
        self._keys = keys
        self._clock = clock
        self._check: str | None = None
        self._new_incarnation = new_incarnation
        self._live: set[str] = set()
        self._sentinel: Sentinel | None = None
        # Webhooks that Kafka refused, each with the refused version.
        self._refused: dict[str, int] = {}
        self._marked_at = self._compared_at = 0.0
        self._incarnation = self._compared_to = ""
        self._outages = outages

    async def run(self, topic: SubscriptionsTable) -> None:
        """Publish until cancelled, beginning with the topic as it is."""
        await self._patiently(lambda: self._begin(topic))
        while True:
            if await self._patiently(lambda: self._publish_once(topic)) == 0:
                with suppress(Unavailable):  # The next step logs it.
                    await self._outbox.changed()

    async def reconcile(self, topic: SubscriptionsTable, may_delete: MayDelete) -> ReconcileResult:
        """Make the topic the same as SQL, once. `may_delete` is asked about webhooks that SQL does not know.

        A person may take a while to answer: keep the lease meanwhile. The attempts of before count for no webhook's
        health any more: `record` may read them again.
        """
        await self._outbox.restart_health()
        strangers = await self._begin(topic)
        deleted_ids = strangers if strangers and await may_delete(strangers) else ()
        await self._lease.check()
        versions = topic.versions()
        await self._producer.produce([_outgoing(name, versions[name] + 1) for name in deleted_ids])
        self._live -= set(deleted_ids)
        published_count = 0
        while count := await self.publish_due():
            published_count += count
        return ReconcileResult(published_count, len(deleted_ids), len(strangers) - len(deleted_ids))

    async def _publish_once(self, topic: SubscriptionsTable) -> int:
        await self._look_back(topic)
        return await self.publish_due()

    async def _look_back(self, topic: SubscriptionsTable) -> None:
        """Publish again what another writer overwrote, such as an old publisher that was stopped for a while."""
        if topic.outdated_ids:
            overtaken = {webhook_id: topic.newest_version(webhook_id) for webhook_id in sorted(topic.outdated_ids)}
            self._telemetry.warning("another_writer_on_subscriptions", webhooks=len(overtaken))
            await self._outbox.owe(overtaken)
            if SENTINEL_KEY in overtaken:
                self._sentinel = None
            # Logged again only if it happens again. What was overtaken meanwhile is left for the next look.
            topic.outdated_ids.difference_update(overtaken)
        now = asyncio.get_running_loop().time()
        if now - self._marked_at >= REPEAT_SENTINEL_SECONDS:
            self._check = await self._keys.verified()
        if now - self._compared_at >= COMPARE_EVERY_SECONDS:
            self._compared_at = now
            await self._compare_next(topic)
            self._refused.clear()

    async def _compare_next(self, topic: SubscriptionsTable) -> None:
        """Compare another portion with the topic. To read every webhook each minute would cost too much."""
        compare = partial(self._outbox.compare_next, version_of=topic.version_of, tombstones=topic.tombstones)
        ids = await compare(self._compared_to) or await compare("")
        self._compared_to = ids[-1] if ids else ""

    async def _patiently(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Wait until the database is there and our keys fit."""
        return await self._outages.retry(step, RETRY_SECONDS, ENCRYPTION_KEYS, DATABASE)

    async def _begin(self, topic: SubscriptionsTable) -> Sequence[str]:
        # A process with other keys writes nothing.
        self._check = await self._keys.verified()
        strangers = await self._outbox.compare(topic.versions(), topic.tombstones)
        if strangers:
            # After a restore from an older dump. To delete them needs a person's decision.
            self._telemetry.error("unknown_webhooks_on_subscriptions", count=len(strangers))
        if self._writes_newest:
            await self._owe_filters(topic)
        self._live = set(topic.versions())
        # A sentinel that counts more webhooks was left by a publisher that had not noticed a re-created topic.
        self._sentinel = topic.sentinel if topic.is_complete() else None
        self._marked_at = self._compared_at = asyncio.get_running_loop().time()
        self._incarnation = self._sentinel.incarnation if self._sentinel else self._new_incarnation()
        return strangers

    async def _owe_filters(self, topic: SubscriptionsTable) -> None:
        """Publish again the webhooks whose filter the release before, which knows none, has left out."""
        last_id = ""
        while filters := await self._outbox.filters(last_id):
            on_topic = {webhook_id: topic.find(webhook_id) for webhook_id in filters}
            await self._outbox.owe(
                {
                    webhook_id: webhook.version + 1
                    for webhook_id, webhook in on_topic.items()
                    if webhook is not None and webhook.filter_text != filters[webhook_id]
                }
            )
            last_id = list(filters)[-1]

    async def publish_due(self) -> int:
        """Publish the webhooks that are due, at most one batch. Returns how many; 0 when there are none.

        A webhook that Kafka refuses does not stop the others: it stays due, and is tried again when it is changed or
        after a minute.
        """
        changes = await self._outbox.due(BATCH_WEBHOOKS, self._refused)
        if changes:
            published = await self._publish(changes)
            if published:
                await self._outbox.published(published)
            for change, _ in published:
                (self._live.discard if change.webhook is None else self._live.add)(change.webhook_id)
            self._telemetry.count("webhooks_published_total", len(published))
        # The first sentinel of an incarnation means that all webhooks are there, so it comes after the last of them.
        if self._sentinel is not None or not changes:
            await self._mark()
        return len(changes)

    async def _publish(self, changes: Sequence[DueChange]) -> list[tuple[DueChange, datetime]]:
        """Produce webhooks. Returns those that are acknowledged, with their append times."""
        encoded_changes: list[tuple[DueChange, Outgoing]] = []
        for change in changes:
            try:
                encoded_changes.append((change, self._outgoing(change)))
            except InvalidRecord as error:
                self._refuse(change, str(error))
        try:
            append_times = await self._producer.produce([outgoing for _, outgoing in encoded_changes])
        except RecordsRefused as error:
            for index, reason in error.reasons.items():
                self._refuse(encoded_changes[index][0], reason)
            return [(encoded_changes[index][0], at) for index, at in error.append_times.items()]
        return [(change, at) for (change, _), at in zip(encoded_changes, append_times, strict=True)]

    def _refuse(self, change: DueChange, reason: str) -> None:
        self._refused[change.webhook_id] = change.version
        self._telemetry.count("webhooks_refused_total")
        self._telemetry.error("webhook_not_published", webhook_id=change.webhook_id, why=reason)

    async def _mark(self) -> None:
        """Produce the sentinel when it changed, and regularly: stages compare their clocks with it."""
        sentinel, now = Sentinel(self._incarnation, len(self._live), self._check), asyncio.get_running_loop().time()
        if sentinel != self._sentinel or now - self._marked_at >= REPEAT_SENTINEL_SECONDS:
            await self._producer.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), sentinel.encode())])
            self._sentinel, self._marked_at = sentinel, now

    @pure
    def _outgoing(self, change: DueChange) -> Outgoing:
        """The webhook's record. Raises `InvalidRecord` for one that the stages would refuse: they would wait for it."""
        value = self._codec.encode(change.webhook) if change.webhook else None
        outgoing = _outgoing(change.webhook_id, change.version, value)
        decode_record(outgoing.key, outgoing.value, outgoing.headers, self._clock.now(), self._codec.decode)
        return outgoing


def _outgoing(webhook_id: str, version: int, value: bytes | None = None) -> Outgoing:
    """A record of `subscriptions`; without a value it is a tombstone."""
    return Outgoing(SUBSCRIPTIONS, webhook_id.encode(), value, ((VERSION_HEADER, str(version).encode()),))
