"""deliver: one attempt at a delivery, and a record of what follows."""

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta
from functools import partial

from streams.core.attempt import DeadLetter
from streams.core.delivery import DeathReason, Delivery, HoldReason, Target, Trigger
from streams.core.endpoint_queue import Priority
from streams.core.errors import ConflictingId, InvalidRecord, Unavailable
from streams.core.health import FallbackHealth
from streams.core.outcome import Kind
from streams.core.schedule import Decision, GiveUp, Hold, RetryLater, UseFallback, before_attempt
from streams.core.webhook import Webhook
from streams.ports import Outgoing, Record, RecordValue
from streams.stages.attempt import AttemptSender, DeliverPorts, DeliveryPolicy
from streams.stages.consuming.deduplicator import Deduplicator
from streams.stages.consuming.partition_state import Handler, StillAssigned
from streams.stages.invalid_records import produce_or_store_invalid, run_pure, store_invalid
from streams.stages.limiting.slot_limiter import AcquiredSlot, EndpointBusy, SlotLimiter
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, retry_topic, tier_of

TEST_EXPIRES = timedelta(seconds=12)
SHORTAGE_SECONDS = 1.0
SHORTAGE_SAID_EVERY = timedelta(seconds=10)

_NOT_ATTEMPTED = {
    DeathReason.DELETED: "The webhook was deleted before the event could be delivered.",
    DeathReason.EXPIRED: "The test waited for longer than 12 seconds and was not sent.",
    DeathReason.EXHAUSTED: "The fallback endpoint failed five times in a row and is given ten minutes of rest.",
}


class Deliver:
    """Attends to one record at a time; whoever calls completes it only after the work has returned."""

    def __init__(
        self, ports: DeliverPorts, policy: DeliveryPolicy, slots: SlotLimiter, repeats: Deduplicator | None = None
    ) -> None:
        self._ports = ports
        self._post = AttemptSender(ports, policy)
        self._slots = slots
        self._repeats = repeats or Deduplicator()
        self._short_since: datetime | None = None
        self._fallbacks: defaultdict[str, FallbackHealth] = defaultdict(FallbackHealth)

    def take(self, record: Record) -> Handler:
        """Attempt a delivery, or hold or bury it; the work returns when all that follows is acknowledged.

        It raises CancelledError when the record is not the caller's any more before its request has left.
        """
        try:
            return partial(self._handle, record, run_pure(lambda: self._read(record)))
        except InvalidRecord as wrong:
            return partial(self._store_invalid, record, str(wrong))

    async def _handle(self, record: Record, delivery: Delivery, mine: StillAssigned) -> None:
        ports = self._ports
        if delivery.trigger is Trigger.TEST:
            await ports.subscriptions.catch_up()
        else:
            await ports.subscriptions.wait_for(delivery.seen)
        try:
            turn = await self._repeats.turn(delivery)
        except ConflictingId as wrong:
            ports.telemetry.count("conflicting_ids_total")
            await self._store_invalid(record, str(wrong))
            return
        with turn as first:
            if not first:
                ports.telemetry.count("repeats_dropped_total")
                return
            try:
                await self._attend(record, delivery, mine)
            except InvalidRecord as wrong:
                await self._store_invalid(record, str(wrong))

    async def _attend(self, record: Record, delivery: Delivery, mine: StillAssigned) -> None:
        ports = self._ports
        if tier_of(record.partition.topic) is not None and await self._is_superseded(delivery):
            ports.telemetry.count("superseded_dropped_total")
            return
        webhook = ports.subscriptions.find(delivery.webhook_id)
        if webhook is not None and webhook.account_id != delivery.account_id:
            await self._store_invalid(record, "the delivery's account is not the account of its webhook")
            return
        outgoing = await self._consequences_once_we_can(record, delivery, mine)
        await produce_or_store_invalid(ports.producer, ports.telemetry, [(one, record) for one in outgoing])

    async def _consequences_once_we_can(
        self, record: Record, delivery: Delivery, mine: StillAssigned
    ) -> list[Outgoing]:
        """What follows; while this machine is short of something the delivery waits, and nothing counts."""
        ports = self._ports
        while True:
            if delivery.trigger is Trigger.TEST and ports.clock.now() - record.appended_at > TEST_EXPIRES:
                ports.telemetry.count("tests_expired_total")
                return run_pure(lambda: self._follow(GiveUp(DeathReason.EXPIRED, delivery.ended(attempted=False))))
            try:
                return await self._consequences(delivery, mine)
            except Unavailable as shortage:
                ports.telemetry.count("attempts_postponed_total")
                self._say_what_is_short(str(shortage))
                await asyncio.sleep(SHORTAGE_SECONDS)

    def _say_what_is_short(self, why: str) -> None:
        now = self._ports.clock.now()
        if self._short_since is None or now - self._short_since >= SHORTAGE_SAID_EVERY:
            self._short_since = now
            self._ports.telemetry.warning("attempts_postponed", why=why)

    async def _is_superseded(self, delivery: Delivery) -> bool:
        """Whether a replay took the place of what waited in a tier."""
        newest = await self._ports.replay_lookup.newest(delivery.id)
        return newest is not None and newest > delivery.generation

    def _read(self, record: Record) -> Delivery:
        delivery = self._ports.codec.decode(record.value or b"")
        if not isinstance(delivery, Delivery):
            raise InvalidRecord(f"a {type(delivery).__name__.lower()} is not a delivery")
        return delivery

    async def _store_invalid(self, record: Record, error: str, mine: StillAssigned | None = None) -> None:
        self._ports.telemetry.count("deliveries_invalid_total")
        await store_invalid(self._ports.producer, self._ports.telemetry, [(record, error)])

    async def _consequences(self, delivery: Delivery, mine: StillAssigned) -> list[Outgoing]:
        """What follows; `InvalidRecord` where our own code fails at this delivery."""
        instead, webhook = run_pure(lambda: self._instead(delivery))
        if instead is not None or webhook is None:
            return run_pure(lambda: self._follow(instead))
        try:
            with await self._slots.slot(_line(delivery), _errand(delivery), webhook.max_concurrency) as turn:
                if not mine():
                    raise asyncio.CancelledError
                # It may have been paused or changed while this delivery waited for its slot.
                instead, webhook = run_pure(lambda: self._instead(delivery))
                if instead is not None or webhook is None:
                    return run_pure(lambda: self._follow(instead))
                return await self._attempt(delivery, webhook, turn)
        except EndpointBusy:
            return self._follow(Hold(delivery.held(HoldReason.BUSY, None, attempted=False)))

    def _instead(self, delivery: Delivery) -> tuple[Decision | None, Webhook | None]:
        webhook = self._ports.subscriptions.find(delivery.webhook_id)
        if webhook is None:
            return GiveUp(DeathReason.DELETED, delivery.ended(attempted=False)), None
        rests = delivery.target is Target.FALLBACK and self._fallbacks[webhook.id].rests(self._ports.clock.now())
        return before_attempt(delivery, webhook, fallback_rests=rests), webhook

    async def _attempt(self, delivery: Delivery, webhook: Webhook, turn: AcquiredSlot) -> list[Outgoing]:
        attempt, following = await self._post.attempt(delivery, webhook)
        turn.delivered = attempt.kind is Kind.DELIVERED
        if delivery.target is Target.FALLBACK:
            self._fallbacks[webhook.id].learn(turn.delivered, attempt.ended_at)
        return run_pure(
            lambda: [
                self._outgoing(ATTEMPTS, delivery.webhook_id, attempt),
                *self._follow(following, attempt.message),
            ]
        )

    def _follow(self, following: Decision | None, message: str | None = None) -> list[Outgoing]:
        match following:
            case RetryLater(tier, delivery):
                return [self._outgoing(retry_topic(tier), delivery.webhook_id, delivery)]
            case UseFallback(delivery):
                return [self._outgoing(DELIVERIES, delivery.webhook_id, delivery)]
            case Hold(delivery):
                self._ports.telemetry.count("deliveries_held_total", reason=str(delivery.hold_reason))
                return [self._outgoing(HELD, delivery.webhook_id, delivery)]
            case GiveUp(reason, delivery):
                if delivery.trigger is not Trigger.TEST:
                    self._ports.telemetry.count("dead_letters_total", reason=reason)
                letter = DeadLetter(delivery, reason, message or _NOT_ATTEMPTED[reason])
                return [self._outgoing(DEAD_LETTERS, delivery.webhook_id, letter)]
        return []

    def _outgoing(self, topic: str, webhook_id: str, value: RecordValue) -> Outgoing:
        return Outgoing(topic, webhook_id.encode(), self._ports.codec.encode(value))


def _line(delivery: Delivery) -> str:
    """Each endpoint has a line of its own; so have a webhook's tests."""
    if delivery.trigger is Trigger.TEST:
        return f"{delivery.webhook_id}/test"
    return delivery.webhook_id if delivery.target is Target.PRIMARY else f"{delivery.webhook_id}/fallback"


def _errand(delivery: Delivery) -> Priority:
    if delivery.trigger is Trigger.TEST:
        return Priority.TEST
    return Priority.FRESH if delivery.is_first else Priority.AGAIN
