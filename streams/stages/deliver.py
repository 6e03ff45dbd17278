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
from streams.core.deliveries.delivery import DeathReason, Delivery, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import ConflictingId, InvalidRecord, RecordAbandoned, RecordsRefused, Unavailable
from streams.core.queues.endpoint_queue import Priority, priority_of, queue_of
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.health import Fallbacks
from streams.outage import RESOURCE_SHORTAGE, Outage, Outages
from streams.ports.kafka import Outgoing, Record, RecordValue
from streams.stages.attempt import AttemptSender, DeliverPorts, DeliveryPolicy, record_metrics
from streams.stages.consuming.deduplicator import Deduplicator
from streams.stages.consuming.partition_state import PartitionState
from streams.stages.invalid_records import store_invalid
from streams.stages.limiting.slot_limiter import EndpointBusy, SlotLimiter
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, retry_topic, tier_of, wait_of

SHORTAGE_PAUSE_SECONDS = 1.0


class Deliver:
    """Handles the records of deliveries, each on its own."""

    def __init__(self, ports: DeliverPorts, policy: DeliveryPolicy, slots: SlotLimiter, outages: Outages) -> None:
        self._ports = ports
        self._encode = invalid_on_failure(ports.codec.encode)
        self._sender = AttemptSender(ports, policy)
        self._slots = slots
        self._deduplicator = Deduplicator()
        self._outages = outages
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

        Raises `InvalidRecord` for a record that our own code cannot handle, and `RecordAbandoned` when the partition
        was revoked, or the process drains, before its request left.
        """
        ports, telemetry = self._ports, self._ports.telemetry
        if await ports.erased_learners.is_erased(delivery):
            # `record` reads the same record, and ends the delivery.
            telemetry.count("deliveries_erased_total")
            return
        if delivery.trigger is Trigger.TEST:
            await ports.subscriptions.catch_up()
        else:
            await ports.subscriptions.wait_for(delivery.subscriptions_position)
        try:
            record_key = await self._deduplicator.begin(delivery)
        except ConflictingId:
            telemetry.count("conflicting_ids_total")
            raise
        if record_key is None:
            telemetry.count("duplicates_dropped_total")
            return
        attempt: Attempt | None = None
        shortage: Outage | None = None
        is_done = False
        try:
            if tier_of(record.partition.topic) is not None:
                newest_generation = await ports.replay_lookup.newest_generation(delivery.id)
                if newest_generation is not None and newest_generation > delivery.generation:
                    # A replay replaced the record that waited in a tier.
                    telemetry.count("retries_superseded_total")
                    is_done = True
                    return
                if delivery.waits_left:
                    await self._wait_again(record, delivery)
                    is_done = True
                    return
            now, appended_at = ports.clock.now, record.appended_at
            due_at = appended_at + wait_of(record.partition.topic)
            decision: SendNow | NotSent | Decision = decide(delivery, self._decision_inputs, appended_at, now())
            queue, priority = queue_of(delivery), priority_of(delivery)
            while isinstance(decision, SendNow):
                webhook = decision.webhook
                rate = None if priority is Priority.TEST else webhook.options.rate
                try:
                    with await self._slots.acquire(
                        queue,
                        priority,
                        webhook.max_concurrency,
                        due_at,
                        delivery.account_id,
                        rate,
                        partition.assigned_at,
                        partition.waiting,
                    ) as slot:
                        if partition.is_revoked:
                            raise RecordAbandoned
                        # It may have been erased while the delivery waited for the slot.
                        is_erased = ports.erased_learners.is_erased_now(delivery)
                        if is_erased:
                            telemetry.count("deliveries_erased_total")
                            is_done = True
                            return
                        if slot.has_waited:
                            # The webhook may have been paused, changed or deleted meanwhile.
                            decision = decide(delivery, self._decision_inputs, appended_at, now())
                        if isinstance(decision, SendNow) and is_erased is not None:
                            attempt, decision = await self._sender.attempt(delivery, decision, slot.give_back)
                            slot.is_delivered = attempt.outcome is OutcomeKind.DELIVERED
                            if delivery.target is Target.FALLBACK and attempt.outcome is not OutcomeKind.PROXY_ERROR:
                                self._fallbacks.record_result(delivery.webhook_id, slot.is_delivered, attempt.ended_at)
                    if is_erased is None:
                        # A slot kept while waiting for Kafka would make the endpoint seem slow.
                        await ports.erased_learners.wait_until_current()
                        decision = decide(delivery, self._decision_inputs, appended_at, now())
                except EndpointBusy as error:
                    decision = decide(delivery, self._decision_inputs, appended_at, now(), hold_reason=error.reason)
                except Unavailable as error:
                    # This machine is short of a resource: the delivery waits, and no attempt counts.
                    telemetry.count("attempts_postponed_total")
                    shortage = self._outages[RESOURCE_SHORTAGE]
                    shortage.begin(record_key, str(error))
                    await asyncio.sleep(SHORTAGE_PAUSE_SECONDS)
                    decision = decide(delivery, self._decision_inputs, appended_at, now())
            await self._produce_decision(record, delivery, decision, attempt)
            is_done = True
        finally:
            self._deduplicator.end(record_key, delivery, is_done=is_done)
            if shortage is not None:
                (shortage.end if is_done else shortage.forget)(record_key)

    async def _wait_again(self, record: Record, delivery: Delivery) -> None:
        """Produce the record that waits once more in the tier of `record`."""
        value = self._encode(delivery.to_next_wait())
        try:
            await self._ports.producer.produce([Outgoing(record.partition.topic, record.key, value)])
        except RecordsRefused as error:
            reason_text = f"Kafka refuses what follows from it: {error}"
            await store_invalid(self._ports.producer, self._ports.telemetry, [(record, reason_text)])

    async def _produce_decision(
        self, record: Record, delivery: Delivery, decision: NotSent | Decision, attempt: Attempt | None
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
