"""deliver: make one attempt at a delivery, and produce the record of what follows."""

from functools import partial

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import DeathReason, Delivery, HoldReason, Target, Trigger
from streams.core.endpoint_queue import Priority
from streams.core.errors import Abandoned, ConflictingId, InvalidRecord, NewerRecord, Unavailable
from streams.core.health import Fallbacks
from streams.core.outcome import OutcomeKind
from streams.core.schedule import (
    Decision,
    GiveUp,
    Hold,
    NotSent,
    RetryLater,
    SendNow,
    UseFallback,
    UsePrimary,
    before_attempt,
)
from streams.outage import MACHINE, Outages
from streams.ports import Outgoing, Record, RecordValue
from streams.stages.attempt import AttemptSender, DeliverPorts, DeliveryPolicy, observe
from streams.stages.consuming.deduplicator import Deduplicator
from streams.stages.consuming.partition_state import Handler, StillAssigned
from streams.stages.invalid_records import produce_or_store_invalid, run_pure, store_invalid
from streams.stages.limiting.slot_limiter import AcquiredSlot, EndpointBusy, SlotLimiter
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, retry_topic, tier_of, wait_of

SHORTAGE_SECONDS = 1.0

# What follows a record, and the attempt if one was made.
Result = tuple[Decision | NotSent, Attempt | None]


class Deliver:
    """Handles the records of deliveries, each on its own. The caller completes a record when its handler returned."""

    def __init__(
        self,
        ports: DeliverPorts,
        policy: DeliveryPolicy,
        slots: SlotLimiter,
        outages: Outages,
        deduplicator: Deduplicator | None = None,
    ) -> None:
        self._ports = ports
        self._sender = AttemptSender(ports, policy)
        self._schedule = policy.schedule
        self._slots = slots
        self._deduplicator = deduplicator or Deduplicator()
        self._outages = outages
        self._fallbacks = Fallbacks()

    def handler(self, record: Record) -> Handler:
        """Decode a record; the handler makes its attempt and returns when all that follows is acknowledged.

        Raises `NewerRecord`. The handler raises `Abandoned` when the partition was revoked, or the process drains,
        before its request left.
        """
        try:
            return partial(self._handle, record, run_pure(lambda: self._read(record)))
        except NewerRecord:
            raise
        except InvalidRecord as wrong:
            return partial(self._store_invalid, record, wrong)

    def _read(self, record: Record) -> Delivery:
        delivery = self._ports.codec.decode(record.value or b"")
        if not isinstance(delivery, Delivery):
            raise InvalidRecord(f"a {type(delivery).__name__.lower()} is not a delivery")
        return delivery

    async def _handle(self, record: Record, delivery: Delivery, still_assigned: StillAssigned) -> None:
        subscriptions, telemetry = self._ports.subscriptions, self._ports.telemetry
        if self._ports.erased_learners.covers(delivery):
            # `record` reads the same record, and ends the delivery.
            telemetry.count("deliveries_erased_total")
            return
        if delivery.trigger is Trigger.TEST:
            await subscriptions.catch_up()
        else:
            await subscriptions.wait_for(delivery.subscriptions_position)
        try:
            turn = await self._deduplicator.turn(delivery)
        except ConflictingId as wrong:
            telemetry.count("conflicting_ids_total")
            await self._store_invalid(record, wrong)
            return
        with turn as is_first:
            if not is_first:
                telemetry.count("duplicates_dropped_total")
            elif tier_of(record.partition.topic) is not None and await self._is_replayed(delivery):
                telemetry.count("retries_superseded_total")
            else:
                await self._deliver(record, delivery, still_assigned)

    async def _is_replayed(self, delivery: Delivery) -> bool:
        """Whether a replay took the place of what waited in a tier."""
        newest = await self._ports.replay_lookup.newest(delivery.id)
        return newest is not None and newest > delivery.generation

    async def _deliver(self, record: Record, delivery: Delivery, still_assigned: StillAssigned) -> None:
        """Make the attempt and produce what follows. While this machine is short of something, the delivery waits.

        What is counted and logged is acknowledged: a failure before that repeats the record.
        """
        step = partial(self._deliver_once, record, delivery, still_assigned)
        try:
            decision, attempt = await self._outages.retry(step, SHORTAGE_SECONDS, MACHINE)
            outgoing = run_pure(lambda: self._records_of(decision, attempt))
        except InvalidRecord as wrong:
            await self._store_invalid(record, wrong)
            return
        await produce_or_store_invalid(self._ports.producer, self._ports.telemetry, [(one, record) for one in outgoing])
        if attempt is not None:
            observe(self._ports.telemetry, attempt)
        self._report(decision)

    async def _deliver_once(self, record: Record, delivery: Delivery, still_assigned: StillAssigned) -> Result:
        decision = run_pure(lambda: self._decide(record, delivery))
        if not isinstance(decision, SendNow):
            return decision, None
        try:
            return await self._attempt(record, delivery, decision, still_assigned)
        except EndpointBusy:
            return Hold(delivery.held(HoldReason.BUSY, None, attempted=False)), None
        except Unavailable:
            self._ports.telemetry.count("attempts_postponed_total")
            raise

    def _decide(self, record: Record, delivery: Delivery) -> SendNow | NotSent:
        webhook = self._ports.subscriptions.find(delivery.webhook_id)
        if webhook is not None and webhook.account_id != delivery.account_id:
            raise InvalidRecord("the delivery's account is not the account of its webhook")
        now = self._ports.clock.now()
        rests = delivery.target is Target.FALLBACK and self._fallbacks.rest(delivery.webhook_id, now)
        waited = now - record.appended_at
        return before_attempt(delivery, webhook, self._schedule, waited=waited, fallback_rests=rests)

    async def _attempt(
        self, record: Record, delivery: Delivery, target: SendNow, still_assigned: StillAssigned
    ) -> Result:
        ceiling, due_at = target.webhook.max_concurrency, record.appended_at + wait_of(record.partition.topic)
        with await self._slots.acquire(_queue_name(delivery), _priority(delivery), ceiling, due_at) as slot:
            if not still_assigned():
                raise Abandoned
            if slot.waited:
                # The webhook may have been paused, changed or deleted meanwhile.
                decision = run_pure(lambda: self._decide(record, delivery))
                if not isinstance(decision, SendNow):
                    return decision, None
                target = decision
            return await self._send(delivery, target, slot)

    async def _send(self, delivery: Delivery, target: SendNow, slot: AcquiredSlot) -> Result:
        attempt, decision = await self._sender.attempt(delivery, target)
        slot.delivered = attempt.outcome is OutcomeKind.DELIVERED
        if delivery.target is Target.FALLBACK:
            self._fallbacks.learn(delivery.webhook_id, slot.delivered, attempt.ended_at)
        return decision, attempt

    def _records_of(self, decision: Decision | NotSent, attempt: Attempt | None) -> list[Outgoing]:
        """The record of the attempt, if one was made, and the record that carries out the decision."""
        records = [] if attempt is None else [self._outgoing(ATTEMPTS, attempt.webhook_id, attempt)]
        match decision:
            case RetryLater(tier, delivery):
                records.append(self._outgoing(retry_topic(tier), delivery.webhook_id, delivery))
            case UseFallback(delivery) | UsePrimary(delivery):
                records.append(self._outgoing(DELIVERIES, delivery.webhook_id, delivery))
            case Hold(delivery):
                records.append(self._outgoing(HELD, delivery.webhook_id, delivery))
            case GiveUp(reason, delivery, why):
                letter = DeadLetter(delivery, reason, attempt.message if attempt else why or "")
                records.append(self._outgoing(DEAD_LETTERS, delivery.webhook_id, letter))
        return records

    def _report(self, decision: Decision | NotSent) -> None:
        match decision:
            case Hold(delivery):
                self._ports.telemetry.count("deliveries_held_total", reason=str(delivery.hold_reason))
                self._log("delivery_held", delivery, reason=str(delivery.hold_reason))
            case GiveUp(reason, delivery):
                if delivery.trigger is not Trigger.TEST:
                    self._ports.telemetry.count("dead_letters_total", reason=reason)
                elif reason is DeathReason.EXPIRED:
                    self._ports.telemetry.count("tests_expired_total")
                self._log("delivery_given_up", delivery, reason=str(reason))

    def _log(self, event: str, delivery: Delivery, **fields: str) -> None:
        if self._ports.telemetry.is_debug_enabled:
            self._ports.telemetry.debug(event, **delivery.ids, **fields)

    def _outgoing(self, topic: str, webhook_id: str, value: RecordValue) -> Outgoing:
        return Outgoing(topic, webhook_id.encode(), self._ports.codec.encode(value))

    async def _store_invalid(
        self, record: Record, wrong: Exception, still_assigned: StillAssigned | None = None
    ) -> None:
        await store_invalid(self._ports.producer, self._ports.telemetry, [(record, str(wrong))])


def _queue_name(delivery: Delivery) -> str:
    """Each endpoint has a queue of its own, and so have a webhook's tests."""
    if delivery.trigger is Trigger.TEST:
        return f"{delivery.webhook_id}/test"
    return delivery.webhook_id if delivery.target is Target.PRIMARY else f"{delivery.webhook_id}/fallback"


def _priority(delivery: Delivery) -> Priority:
    if delivery.trigger is Trigger.TEST:
        return Priority.TEST
    return Priority.FIRST if delivery.is_first else Priority.RETRY
