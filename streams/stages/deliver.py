"""deliver: make one attempt at a delivery, and produce the record of what follows."""

import asyncio

from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.decision import (
    Decision,
    DecisionInputs,
    GiveUp,
    Hold,
    NotSent,
    RetryLater,
    SendNow,
    UseFallback,
    UsePrimary,
    decide,
)
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import InvalidRecord, RecordAbandoned, RecordsRefused, Unavailable
from streams.core.queues.slot_request import slot_request
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.health import Fallbacks
from streams.outage import RESOURCE_SHORTAGE, Outages
from streams.ports.kafka import Outgoing, Record, RecordValue
from streams.stages.admission import Admission
from streams.stages.attempt import AttemptSender, DeliverPorts, DeliveryPolicy, record_metrics
from streams.stages.consuming.partition_state import PartitionState
from streams.stages.invalid_records import store_invalid
from streams.stages.limiting.slot_limiter import EndpointBusy, SlotLimiter
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, retry_topic, wait_of

SHORTAGE_PAUSE_SECONDS = 1.0
# The attempt, if one was made, and what follows; nothing follows for a learner who was erased meanwhile.
_Result = tuple[Attempt | None, NotSent | Decision | None]


class Deliver:
    """Handles the records of deliveries, each on its own."""

    def __init__(self, ports: DeliverPorts, policy: DeliveryPolicy, slots: SlotLimiter, outages: Outages) -> None:
        self._ports = ports
        self._encode = invalid_on_failure(ports.codec.encode)
        self._admission = Admission(ports)
        self._sender = AttemptSender(ports, policy)
        self._slots = slots
        self._shortage = outages[RESOURCE_SHORTAGE]
        self._fallbacks = Fallbacks()
        self._decision_inputs = DecisionInputs(ports.subscriptions.find, policy.schedule, self._fallbacks)

    @invalid_on_failure
    def read(self, record: Record) -> Delivery:
        """Decode a record. Raises `NewerRecord`, or `InvalidRecord` for anything but a delivery."""
        delivery = self._ports.codec.decode(record.value or b"")
        if not isinstance(delivery, Delivery):
            raise InvalidRecord(f"a {type(delivery).__name__.lower()} is not a delivery")
        return delivery

    async def deliver(self, record: Record, delivery: Delivery, partition: PartitionState) -> None:
        """Make the attempt that is due, if any, and produce what follows. Returns when it is acknowledged.

        Raises `InvalidRecord` for a record that the code cannot handle, and `RecordAbandoned` when the partition was
        revoked, or the process drains, before its request left.
        """
        record_key = await self._admission.admit(record, delivery)
        if record_key is None:
            return
        hold_reason, is_short, is_done = None, False, False
        result: _Result | None = None
        try:
            while result is None:
                try:
                    result = await self._attempt_when_due(record, delivery, partition, hold_reason)
                except EndpointBusy as error:
                    hold_reason = error.reason
                except Unavailable as error:
                    # This machine is short of a resource: the delivery waits, and no attempt counts.
                    is_short = True
                    self._ports.telemetry.count("attempts_postponed_total")
                    self._shortage.begin(record_key, str(error))
                    await asyncio.sleep(SHORTAGE_PAUSE_SECONDS)
            await self._produce_decision(record, delivery, *result)
            is_done = True
        finally:
            self._admission.end(record_key, delivery, is_done=is_done)
            if is_short:
                (self._shortage.end if is_done else self._shortage.forget)(record_key)

    async def _attempt_when_due(
        self, record: Record, delivery: Delivery, partition: PartitionState, hold_reason: HoldReason | None
    ) -> _Result | None:
        """Make the attempt that is due, if any, when its endpoint has a slot; None if the due step was unknown."""
        ports, inputs, appended_at = self._ports, self._decision_inputs, record.appended_at
        decision = decide(delivery, inputs, appended_at, ports.clock.now(), hold_reason=hold_reason)
        if not isinstance(decision, SendNow):
            return None, decision
        due_at = appended_at + wait_of(record.partition.topic)
        request = slot_request(delivery, decision.webhook, due_at, partition.assigned_at)
        with await self._slots.acquire(request, partition.waiting) as slot:
            if partition.is_revoked:
                raise RecordAbandoned
            if ports.erased_learners.is_current():
                if ports.erased_learners.is_erased_now(delivery):
                    return None, None
                if slot.has_waited:
                    # The webhook may have been paused, changed or deleted meanwhile.
                    decision = decide(delivery, inputs, appended_at, ports.clock.now())
                    if not isinstance(decision, SendNow):
                        return None, decision
                attempt, what_follows = await self._sender.attempt(delivery, decision, slot.move_to_slow)
                slot.is_delivered = attempt.outcome is OutcomeKind.DELIVERED
                if delivery.target is Target.FALLBACK and attempt.outcome is not OutcomeKind.PROXY_ERROR:
                    self._fallbacks.record_result(delivery.webhook_id, slot.is_delivered, attempt.ended_at)
                return attempt, what_follows
        # A slot kept while waiting for Kafka would make the endpoint seem slow.
        await ports.erased_learners.wait_until_current()
        return None

    async def _produce_decision(
        self, record: Record, delivery: Delivery, attempt: Attempt | None, decision: NotSent | Decision | None
    ) -> None:
        """Produce the record of the attempt, if one was made, and the record that the decision asks for.

        Only acknowledged records are counted and logged: a failure before that repeats the record.
        """
        telemetry, key = self._ports.telemetry, delivery.webhook_id.encode()
        values: list[tuple[str, RecordValue]] = [] if attempt is None else [(ATTEMPTS, attempt)]
        match decision:
            case RetryLater(tier, next_delivery):
                values.append((retry_topic(tier), next_delivery))
            case UseFallback(next_delivery) | UsePrimary(next_delivery):
                values.append((DELIVERIES, next_delivery))
            case Hold(next_delivery):
                values.append((HELD, next_delivery))
            case GiveUp(reason, next_delivery, reason_text):
                dead_letter = DeadLetter(next_delivery, reason, attempt.message if attempt else reason_text or "")
                values.append((DEAD_LETTERS, dead_letter))
        outgoing = [Outgoing(topic, key, self._encode(value)) for topic, value in values]
        is_acknowledged = True
        try:
            await self._ports.producer.produce(outgoing)
        except RecordsRefused as error:
            reason_text = f"Kafka refuses what follows from it: {error}"
            await store_invalid(self._ports.producer, telemetry, [(record, reason_text)])
            # The record of the decision is the last one.
            is_acknowledged = len(outgoing) - 1 not in error.reasons
        if attempt is not None:
            record_metrics(telemetry, attempt)
        if not is_acknowledged:
            return
        match decision:
            case None:
                telemetry.count("deliveries_erased_total")
            case Hold(next_delivery):
                telemetry.count("deliveries_held_total", reason=str(next_delivery.hold_reason))
                if telemetry.is_debug_enabled:
                    telemetry.debug("delivery_held", **delivery.ids, reason=str(next_delivery.hold_reason))
            case GiveUp(reason):
                if delivery.trigger is not Trigger.TEST:
                    telemetry.count("dead_letters_total", reason=reason)
                elif reason is DeathReason.EXPIRED:
                    telemetry.count("tests_expired_total")
                if telemetry.is_debug_enabled:
                    telemetry.debug("delivery_given_up", **delivery.ids, reason=str(reason))
