"""Admit deliveries that may need a request; the others are erased, repeated or replaced, or wait again."""

from streams.core.deliveries.delivery import Delivery, Trigger
from streams.core.errors import ConflictingId, RecordsRefused
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.ports.kafka import Outgoing, Record
from streams.stages.attempt import DeliverPorts
from streams.stages.consuming.deduplicator import Deduplicator
from streams.stages.invalid_records import store_invalid
from streams.topics import tier_of


class Admission:
    """The first half of `deliver`: the checks of a delivery's record before its webhook is looked up."""

    def __init__(self, ports: DeliverPorts) -> None:
        self._ports = ports
        self._encode = invalid_on_failure(ports.codec.encode)
        self._deduplicator = Deduplicator()

    async def admit(self, record: Record, delivery: Delivery) -> str | None:
        """The key of a delivery that may need a request, for `end`; None if nothing is left to do.

        Waits until the subscriptions that the delivery was made with are known. Raises `ConflictingId` for an event id
        that was acknowledged with another body, and `InvalidRecord` if the code fails on the delivery.
        """
        ports = self._ports
        if await ports.erased_learners.is_erased(delivery):
            # `record` reads the same record, and ends the delivery.
            ports.telemetry.count("deliveries_erased_total")
            return None
        if delivery.trigger is Trigger.TEST:
            await ports.subscriptions.catch_up()
        else:
            await ports.subscriptions.wait_for(delivery.subscriptions_position)
        try:
            record_key = await self._deduplicator.begin(delivery)
        except ConflictingId:
            ports.telemetry.count("conflicting_ids_total")
            raise
        if record_key is None:
            ports.telemetry.count("duplicates_dropped_total")
        elif tier_of(record.partition.topic) is not None and await self._ends_in_tier(record_key, record, delivery):
            return None
        return record_key

    def end(self, record_key: str, delivery: Delivery, *, is_done: bool) -> None:
        """End what `admit` began. Unless it is done, a repeated record is handled in its place."""
        self._deduplicator.end(record_key, delivery, is_done=is_done)

    async def _ends_in_tier(self, record_key: str, record: Record, delivery: Delivery) -> bool:
        """Whether nothing is left to do for a record that has waited in a tier."""
        try:
            is_done = await self._is_replaced(delivery) or await self._waits_again(record, delivery)
        except BaseException:
            self.end(record_key, delivery, is_done=False)
            raise
        if is_done:
            self.end(record_key, delivery, is_done=True)
        return is_done

    async def _is_replaced(self, delivery: Delivery) -> bool:
        """Whether a replay has replaced the record that waited in a tier."""
        newest_generation = await self._ports.replay_lookup.newest_generation(delivery.id)
        is_replaced = newest_generation is not None and newest_generation > delivery.generation
        if is_replaced:
            self._ports.telemetry.count("retries_superseded_total")
        return is_replaced

    async def _waits_again(self, record: Record, delivery: Delivery) -> bool:
        """Whether the delivery waits once more in the tier of `record`: then its next record is produced."""
        if not delivery.waits_left:
            return False
        value = self._encode(delivery.to_next_wait())
        try:
            await self._ports.producer.produce([Outgoing(record.partition.topic, record.key, value)])
        except RecordsRefused as error:
            reason_text = f"Kafka refuses what follows from it: {error}"
            await store_invalid(self._ports.producer, self._ports.telemetry, [(record, reason_text)])
        return True
