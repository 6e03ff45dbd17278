"""Replay one webhook by time: count first, then start a job."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.backfill import Backfill
from streams.core.deliveries.job import Job, JobKind
from streams.core.ids import derived_id
from streams.core.queues.rate import seconds_to_send
from streams.core.webhooks.webhook import Webhook
from streams.features.replays.missing_events import MissingEventCounter
from streams.features.replays.rules import ReplayCount, ReplayRequest
from streams.features.shared.audit_trail import new_entry
from streams.ids import new_id
from streams.ports.runtime import Clock
from streams.ports.storage import DeliveryStore, Jobs


@dataclass
class ReplayService:
    """`actor` is the caller, for the audit log; `_per_second` limits the releases to one webhook.

    `_median_response_ms` returns the median of an endpoint's response times; None if there are none.
    """

    _deliveries: DeliveryStore
    _jobs: Jobs
    _median_response_ms: Callable[[Webhook], Awaitable[float | None]]
    _missing_events: MissingEventCounter
    _clock: Clock
    _per_second: int

    async def count(self, webhook: Webhook, request: ReplayRequest) -> ReplayCount:
        """Count what a replay would send. Raises `Invalid`, and with a backfill `Unavailable`."""
        delivery_filter = request.to_filter(webhook.account_id, self._clock.now())
        summary = await self._deliveries.summary(delivery_filter)
        missing_events = await self._missing_events.count(webhook, delivery_filter) if request.backfill else None
        count = summary.count + (missing_events.count if missing_events else 0)
        return ReplayCount(summary, missing_events, await self._estimated_seconds(webhook, count))

    async def start(
        self, webhook: Webhook, request: ReplayRequest, *, actor: str, idempotency_key: str | None = None
    ) -> Job:
        """Start a job; `maintain` does the work. A second call with the same `idempotency_key` returns the same job.

        Raises `Invalid`, and `Conflict` while another replay of the webhook is in progress.
        """
        now, account_id = self._clock.now(), webhook.account_id
        delivery_filter = request.to_filter(account_id, now)
        job_id = derived_id("job", account_id, idempotency_key) if idempotency_key else new_id("job")
        backfill = Backfill() if request.backfill else None
        job = Job(job_id, account_id, JobKind.REPLAY, delivery_filter, now, backfill=backfill)
        return await self._jobs.add(job, self._audit(request, job, actor))

    def _audit(self, request: ReplayRequest, job: Job, actor: str) -> AuditEntry:
        return new_entry(
            self._clock,
            actor,
            "webhook.replayed",
            request.webhook_id,
            job.account_id,
            job=job.id,
            since=request.since.isoformat(),
            until=request.until.isoformat() if request.until else None,
            event_types=list(request.event_types) or None,
            states=list(map(str, request.states)),
            backfill=request.backfill or None,
        )

    async def _estimated_seconds(self, webhook: Webhook, count: int) -> float | None:
        """About how long the endpoint needs; None if its pace is not known."""
        median = await self._median_response_ms(webhook)
        per_second = min(self._per_second, webhook.options.rate_per_second or self._per_second)
        return None if median is None else seconds_to_send(count, per_second, webhook.max_concurrency, median)
