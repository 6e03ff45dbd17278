"""Try one held delivery of each webhook whose probe is due, and never two of one webhook at once."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from streams.core.deliveries.delivery_state import Batch, state_of_record
from streams.core.deliveries.held import Probe
from streams.core.errors import InvalidRecord, RecordsRefused, Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.ports.delivery import Subscriptions
from streams.ports.kafka import Codec, Outgoing, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import HeldDeliveries, Recorder
from streams.stages.postponed_work import PostponedWork
from streams.topics import DELIVERIES

CYCLE_SECONDS = 5.0


class ProbePaused:
    """Sends probes. `deliver` makes one attempt of each, and `record` enables the webhook if it succeeds.

    Produce → acknowledged → stored → the next time: after a crash the same record is produced again, with the same
    step, or `record` sets the next time.
    """

    def __init__(
        self,
        held_deliveries: HeldDeliveries,
        recorder: Recorder,
        subscriptions: Subscriptions,
        producer: RecordProducer,
        codec: Codec,
        clock: Clock,
        telemetry: Telemetry,
        postponed_work: PostponedWork,
    ) -> None:
        self._held_deliveries = held_deliveries
        self._recorder = recorder
        self._subscriptions = subscriptions
        self._producer = producer
        self._codec = codec
        self._clock = clock
        self._telemetry = telemetry
        self._postponed_work = postponed_work

    async def run(self) -> None:
        """Serve until cancelled, through outages of the database."""
        while True:
            # The publisher logs the outage.
            with suppress(Unavailable):
                await self.cycle()
            await asyncio.sleep(CYCLE_SECONDS)

    async def cycle(self) -> int:
        """Send every probe that is due. Returns their number."""
        probes = await self._due_probes()
        sent_count = 0
        for probe in probes:
            async with self._postponed_work.unit(WorkKind.HELD_DELIVERY, probe.delivery.id, probe.delivery.account_id):
                await self._send(probe)
                sent_count += 1
        return sent_count

    async def _due_probes(self) -> Sequence[Probe]:
        failed_rows: list[FailedRow] = []
        excluded = self._postponed_work.postponed_ids(WorkKind.HELD_DELIVERY)
        probes = await self._held_deliveries.due_probes(self._clock.now(), excluded, failed_rows)
        await self._postponed_work.postpone_rows(WorkKind.HELD_DELIVERY, failed_rows)
        return probes

    async def _send(self, probe: Probe) -> None:
        """Raises `InvalidRecord` if Kafka refuses the record permanently."""
        position = await self._subscriptions.catch_up()
        delivery = probe.delivery.to_probe(probe.pause_id)._replace(subscriptions_position=position)
        record = Outgoing(DELIVERIES, delivery.webhook_id.encode(), self._codec.encode(delivery))
        try:
            await self._producer.produce([record])
        except RecordsRefused as error:
            raise InvalidRecord(str(error)) from None
        now = self._clock.now()
        await self._recorder.record(Batch([state_of_record(delivery, now)]))
        # Not when its attempt is stored: `record` may store that it is held again long before.
        await self._held_deliveries.move_probe(delivery.webhook_id, probe.pause_id, now)
        self._telemetry.info("webhook_probed", **delivery.ids, pause_id=probe.pause_id)
