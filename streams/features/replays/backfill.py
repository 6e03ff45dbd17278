"""Backfill: as a part of a job, add the deliveries that a webhook lacks for events on `session-events`."""

import asyncio
from dataclasses import replace

from streams.core.deliveries.backfill import MIN_EVENT_AGE, Backfill
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.deliveries.job import Job
from streams.core.errors import InvalidRecord, Unavailable
from streams.core.webhooks.webhook import Webhook
from streams.features.replays.missing_events import deliveries_of
from streams.features.shared.event_scan import RECORDS_PER_READ
from streams.outage import EVENT_HISTORY, Outages
from streams.ports.kafka import Codec, EventHistory, HistoryPortion, Record
from streams.ports.runtime import Clock
from streams.ports.storage import Jobs
from streams.ports.webhooks import Webhooks

RETRY_PAUSE_SECONDS = 1.0


class HistoryBackfill:
    """Advances the backfill of a job: read a portion → decode and match → store it with the progress.

    A crash before the store reads the portion again and stores the same deliveries, because their ids are computed.
    """

    def __init__(
        self,
        jobs: Jobs,
        webhooks: Webhooks,
        history: EventHistory,
        codec: Codec,
        clock: Clock,
        outages: Outages,
        *,
        records_per_read: int = RECORDS_PER_READ,
        retry_pause_seconds: float = RETRY_PAUSE_SECONDS,
    ) -> None:
        self._jobs = jobs
        self._webhooks = webhooks
        self._history = history
        self._codec = codec
        self._clock = clock
        self._records_per_read = records_per_read
        self._retry_pause_seconds = retry_pause_seconds
        self._outage = outages[EVENT_HISTORY]
        # By id of a job that found nothing to do: when it looks again.
        self._paused_until: dict[str, float] = {}

    async def do_next_portion(self, job: Job) -> Job:
        """Do one more portion. If the topic cannot be read, the job stays as it is."""
        now = asyncio.get_running_loop().time()
        if now < self._paused_until.get(job.id, 0.0):
            return job
        # A job that ended meanwhile does not come back.
        self._paused_until = {job_id: pause_end for job_id, pause_end in self._paused_until.items() if now < pause_end}
        try:
            progress = await self._advance(job)
        except Unavailable as error:
            self._outage.begin(self, str(error))
            progress = job
        else:
            self._outage.end(self)
        if progress == job:
            self._paused_until[job.id] = now + self._retry_pause_seconds
        return progress

    async def _advance(self, job: Job) -> Job:
        progress, delivery_filter = job.backfill, job.filter
        if progress is None or delivery_filter.since is None or delivery_filter.until is None:
            raise InvalidRecord("its backfill has no period")
        if progress.ranges is None:
            period = await self._history.period(delivery_filter.since, delivery_filter.until)
            return await self._jobs.store_backfill(job, progress.begin(period), Batch())
        webhook = await self._webhooks.find(delivery_filter.webhook_id or "")
        if webhook is None:
            # The webhook was deleted: nothing is owed to it.
            return await self._jobs.store_backfill(job, replace(progress, ranges=()), Batch())
        return await self._read_portion(job, progress, webhook.webhook)

    async def _read_portion(self, job: Job, progress: Backfill, webhook: Webhook) -> Job:
        portion = self._drop_young_records(await self._history.read(progress.ranges or (), self._records_per_read))
        new_progress = progress.after_reading(portion.positions)
        if new_progress == progress:
            return job
        missing_deliveries = await deliveries_of(portion.records, self._codec, webhook, job.filter)
        at = job.filter.change_at(self._clock.now())
        return await self._jobs.store_backfill(
            job, new_progress, merge_records(RecordedValue(delivery, at) for delivery in missing_deliveries)
        )

    def _drop_young_records(self, portion: HistoryPortion) -> HistoryPortion:
        """The portion up to the first record of each partition that is too young."""
        young_since = self._clock.now() - MIN_EVENT_AGE
        positions, records = dict(portion.positions), list[Record]()
        for record in portion.records:
            partition = record.partition.number
            if record.offset >= positions[partition]:
                continue
            if record.appended_at > young_since:
                positions[partition] = record.offset
            else:
                records.append(record)
        return HistoryPortion(records, positions)
