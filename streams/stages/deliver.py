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
from streams.stages.invalid_records import park, produce_or_park, tried
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
        self, world: DeliverPorts, manner: DeliveryPolicy, slots: SlotLimiter, repeats: Deduplicator | None = None
    ) -> None:
        self._world = world
        self._post = AttemptSender(world, manner)
        self._slots = slots
        self._repeats = repeats or Deduplicator()
        self._short_since: datetime | None = None
        self._fallbacks: defaultdict[str, FallbackHealth] = defaultdict(FallbackHealth)

    def take(self, record: Record) -> Handler:
        """Attempt a delivery, or hold or bury it; the work returns when all that follows is acknowledged.

        It raises CancelledError when the record is not the caller's any more before its request has left.
        """
        try:
            return partial(self._handle, record, tried(lambda: self._read(record)))
        except InvalidRecord as wrong:
            return partial(self._park, record, str(wrong))

    async def _handle(self, record: Record, delivery: Delivery, mine: StillAssigned) -> None:
        world = self._world
        if delivery.trigger is Trigger.TEST:
            await world.directory.catch_up()
        else:
            await world.directory.wait_for(delivery.seen)
        try:
            turn = await self._repeats.turn(delivery)
        except ConflictingId as wrong:
            world.report.count("conflicting_ids_total")
            await self._park(record, str(wrong))
            return
        with turn as first:
            if not first:
                world.report.count("repeats_dropped_total")
                return
            try:
                await self._attend(record, delivery, mine)
            except InvalidRecord as wrong:
                await self._park(record, str(wrong))

    async def _attend(self, record: Record, delivery: Delivery, mine: StillAssigned) -> None:
        world = self._world
        if tier_of(record.partition.topic) is not None and await self._is_superseded(delivery):
            world.report.count("superseded_dropped_total")
            return
        webhook = world.directory.find(delivery.webhook_id)
        if webhook is not None and webhook.account_id != delivery.account_id:
            await self._park(record, "the delivery's account is not the account of its webhook")
            return
        outgoing = await self._consequences_once_we_can(record, delivery, mine)
        await produce_or_park(world.log, world.report, [(one, record) for one in outgoing])

    async def _consequences_once_we_can(
        self, record: Record, delivery: Delivery, mine: StillAssigned
    ) -> list[Outgoing]:
        """What follows; while this machine is short of something the delivery waits, and nothing counts."""
        world = self._world
        while True:
            if delivery.trigger is Trigger.TEST and world.clock.now() - record.appended_at > TEST_EXPIRES:
                world.report.count("tests_expired_total")
                return tried(lambda: self._follow(GiveUp(DeathReason.EXPIRED, delivery.ended(attempted=False))))
            try:
                return await self._consequences(delivery, mine)
            except Unavailable as shortage:
                world.report.count("attempts_postponed_total")
                self._say_what_is_short(str(shortage))
                await asyncio.sleep(SHORTAGE_SECONDS)

    def _say_what_is_short(self, why: str) -> None:
        now = self._world.clock.now()
        if self._short_since is None or now - self._short_since >= SHORTAGE_SAID_EVERY:
            self._short_since = now
            self._world.report.warning("attempts_postponed", why=why)

    async def _is_superseded(self, delivery: Delivery) -> bool:
        """Whether a replay took the place of what waited in a tier."""
        newest = await self._world.replay_lookup.newest(delivery.id)
        return newest is not None and newest > delivery.generation

    def _read(self, record: Record) -> Delivery:
        delivery = self._world.codec.decode(record.value or b"")
        if not isinstance(delivery, Delivery):
            raise InvalidRecord(f"a {type(delivery).__name__.lower()} is not a delivery")
        return delivery

    async def _park(self, record: Record, error: str, mine: StillAssigned | None = None) -> None:
        self._world.report.count("deliveries_invalid_total")
        await park(self._world.log, self._world.report, [(record, error)])

    async def _consequences(self, delivery: Delivery, mine: StillAssigned) -> list[Outgoing]:
        """What follows; `InvalidRecord` where our own code fails at this delivery."""
        instead, webhook = tried(lambda: self._instead(delivery))
        if instead is not None or webhook is None:
            return tried(lambda: self._follow(instead))
        try:
            with await self._slots.slot(_line(delivery), _errand(delivery), webhook.max_concurrency) as turn:
                if not mine():
                    raise asyncio.CancelledError
                # It may have been paused or changed while this delivery waited for its slot.
                instead, webhook = tried(lambda: self._instead(delivery))
                if instead is not None or webhook is None:
                    return tried(lambda: self._follow(instead))
                return await self._attempt(delivery, webhook, turn)
        except EndpointBusy:
            return self._follow(Hold(delivery.held(HoldReason.BUSY, None, attempted=False)))

    def _instead(self, delivery: Delivery) -> tuple[Decision | None, Webhook | None]:
        webhook = self._world.directory.find(delivery.webhook_id)
        if webhook is None:
            return GiveUp(DeathReason.DELETED, delivery.ended(attempted=False)), None
        rests = delivery.target is Target.FALLBACK and self._fallbacks[webhook.id].rests(self._world.clock.now())
        return before_attempt(delivery, webhook, fallback_rests=rests), webhook

    async def _attempt(self, delivery: Delivery, webhook: Webhook, turn: AcquiredSlot) -> list[Outgoing]:
        attempt, following = await self._post.attempt(delivery, webhook)
        turn.delivered = attempt.kind is Kind.DELIVERED
        if delivery.target is Target.FALLBACK:
            self._fallbacks[webhook.id].learn(turn.delivered, attempt.ended_at)
        return tried(
            lambda: [
                self._outgoing(ATTEMPTS, delivery.webhook_id, attempt),
                *self._follow(following, attempt.words),
            ]
        )

    def _follow(self, following: Decision | None, words: str | None = None) -> list[Outgoing]:
        match following:
            case RetryLater(tier, delivery):
                return [self._outgoing(retry_topic(tier), delivery.webhook_id, delivery)]
            case UseFallback(delivery):
                return [self._outgoing(DELIVERIES, delivery.webhook_id, delivery)]
            case Hold(delivery):
                self._world.report.count("deliveries_held_total", reason=str(delivery.hold_reason))
                return [self._outgoing(HELD, delivery.webhook_id, delivery)]
            case GiveUp(reason, delivery):
                if delivery.trigger is not Trigger.TEST:
                    self._world.report.count("dead_letters_total", reason=reason)
                letter = DeadLetter(delivery, reason, words or _NOT_ATTEMPTED[reason])
                return [self._outgoing(DEAD_LETTERS, delivery.webhook_id, letter)]
        return []

    def _outgoing(self, topic: str, webhook_id: str, noun: RecordValue) -> Outgoing:
        return Outgoing(topic, webhook_id.encode(), self._world.codec.encode(noun))


def _line(delivery: Delivery) -> str:
    """Each endpoint has a line of its own; so have a webhook's tests."""
    if delivery.trigger is Trigger.TEST:
        return f"{delivery.webhook_id}/test"
    return delivery.webhook_id if delivery.target is Target.PRIMARY else f"{delivery.webhook_id}/fallback"


def _errand(delivery: Delivery) -> Priority:
    if delivery.trigger is Trigger.TEST:
        return Priority.TEST
    return Priority.FRESH if delivery.is_first else Priority.AGAIN
