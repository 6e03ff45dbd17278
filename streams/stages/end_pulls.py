"""End deliveries that wait for readers: after their retention, and when the webhook is no longer a pull webhook.

Expired temporary webhooks end here too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from streams.core.deliveries.held import HeldChoice, HeldDelivery, PulledWebhook
from streams.core.errors import Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.ports.delivery import Subscriptions
from streams.ports.runtime import Clock
from streams.ports.storage import HeldDeliveries
from streams.ports.webhooks import Webhooks
from streams.stages.postponed_work import PostponedWork

CYCLE_SECONDS = 10.0
# Between portions, for the other work of this process.
MIN_PAUSE_SECONDS = 0.1
# Of one webhook in one cycle, so that others have their turn.
MAX_ENDED_DELIVERIES = 500
# Temporary webhooks in one cycle.
MAX_EXPIRED_WEBHOOKS = 50
# Only rows change here: no record is produced.
MAX_RETURNED_DELIVERIES = 10_000


class EndPulls:
    """Makes dead letters of deliveries that no reader acknowledged in time, by `end_holds`."""

    def __init__(
        self,
        webhooks: Webhooks,
        held_deliveries: HeldDeliveries,
        subscriptions: Subscriptions,
        clock: Clock,
        postponed_work: PostponedWork,
        end_holds: Callable[[Sequence[HeldDelivery], float], Awaitable[int]],
    ) -> None:
        self._webhooks = webhooks
        self._held_deliveries = held_deliveries
        self._subscriptions = subscriptions
        self._clock = clock
        self._postponed_work = postponed_work
        self._end_holds = end_holds

    async def run(self) -> None:
        """Serve until cancelled, through outages of the database."""
        while True:
            count = 0
            # The publisher logs the outage.
            with suppress(Unavailable):
                count = await self.cycle()
            await asyncio.sleep(MIN_PAUSE_SECONDS if count else CYCLE_SECONDS)

    async def cycle(self) -> int:
        """End one portion of each webhook whose deliveries have waited for too long. Returns how many in all."""
        count = 0
        for webhook_id in await self._webhooks.expired(
            MAX_EXPIRED_WEBHOOKS, self._postponed_work.postponed_ids(WorkKind.WEBHOOK)
        ):
            async with self._postponed_work.unit(WorkKind.WEBHOOK, webhook_id):
                await self._webhooks.delete_expired(webhook_id)
                count += 1
        postponed_ids = self._postponed_work.postponed_ids(WorkKind.WEBHOOK)
        for webhook in await self._held_deliveries.pulled_webhooks():
            if webhook.id in postponed_ids:
                continue
            async with self._postponed_work.unit(WorkKind.WEBHOOK, webhook.id):
                if webhook.is_pull:
                    count += await self._end_holds(await self._unacknowledged(webhook), 0)
                elif webhook.has_ended:
                    count += await self._end_holds(await self._left_behind(webhook), 0)
                else:
                    count += await self._held_deliveries.to_requests(
                        webhook.id, self._clock.now(), MAX_RETURNED_DELIVERIES
                    )
        return count

    async def _unacknowledged(self, webhook: PulledWebhook) -> Sequence[HeldDelivery]:
        """Deliveries that have waited for longer than the webhook's retention; time in a pause does not count."""
        known_webhook, now = self._subscriptions.find(webhook.id), self._clock.now()
        if known_webhook is None or not webhook.is_active:
            return ()
        held_before = now - known_webhook.options.retention
        if any(at is not None and at > held_before for at in (webhook.enabled_at, webhook.oldest_at)):
            return ()
        return await self._read(webhook, held_before, now)

    async def _left_behind(self, webhook: PulledWebhook) -> Sequence[HeldDelivery]:
        """Unacknowledged deliveries of an ended temporary webhook. Nobody can send them again: they are discarded."""
        now = self._clock.now()
        return [replace(one, choice=HeldChoice.DISCARD) for one in await self._read(webhook, now, now)]

    async def _read(self, webhook: PulledWebhook, held_before: datetime, now: datetime) -> Sequence[HeldDelivery]:
        failed_rows: list[FailedRow] = []
        excluded = self._postponed_work.postponed_ids(WorkKind.HELD_DELIVERY)
        deliveries = await self._held_deliveries.unacknowledged(
            webhook.id, held_before, now, MAX_ENDED_DELIVERIES, excluded, failed_rows
        )
        await self._postponed_work.postpone_rows(WorkKind.HELD_DELIVERY, failed_rows)
        return deliveries
