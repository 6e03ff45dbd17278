"""Look up deliveries, replay them, discard dead letters; one, some, or all that match a filter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from streams.core.accounts.account import AttemptDetails, DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.delivery import State, Trigger
from streams.core.deliveries.delivery_state import DeliveryState, StateCount
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.erasures.erasure import ERASED_REASON
from streams.core.errors import Conflict, FieldError, Invalid, NotFound
from streams.core.ids import derived_id
from streams.core.limits import MAX_RETRIES_PER_DELIVERY
from streams.core.page import MAX_PAGE_ROWS, Cursor, Page
from streams.features.deliveries.retry_rules import to_retry_filter
from streams.features.shared.audit_trail import new_entry
from streams.ids import new_id
from streams.ports.runtime import Clock
from streams.ports.storage import DeliveryStore, Jobs, Replays

# A payload is stored about a second after the attempt, unless `record` is behind.
MAX_PAYLOAD_CHECKS = 30
PAYLOAD_CHECK_INTERVAL_SECONDS = 0.1
RECENT_PERIOD = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class EventStatus:
    """The status of an event at one webhook; `sequence` is its number within its session."""

    delivery_state: DeliveryState
    sequence: int | None


@dataclass(frozen=True, slots=True)
class AffectedIds:
    """The deliveries that an action affected, and the requested ids that no delivery has."""

    ids: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass
class DeliveryService:
    """Deliveries, as people see them and act on them. `actor` is the caller; `account_id` limits it to one account."""

    _deliveries: DeliveryStore
    _replays: Replays
    _jobs: Jobs
    _clock: Clock
    payload_check_interval_seconds: float = PAYLOAD_CHECK_INTERVAL_SECONDS

    async def list(self, delivery_filter: DeliveryFilter) -> Page[DeliveryState]:
        """The deliveries that match, newest first."""
        return await self._deliveries.list(delivery_filter)

    async def statuses(self, delivery_filter: DeliveryFilter) -> Page[EventStatus]:
        """The status of the matching events of one account, newest first, without tests."""
        page = await self._deliveries.list(replace(delivery_filter, without_tests=True))
        event_ids = [delivery_state.event_id for delivery_state in page.rows]
        sequences = await self._deliveries.sequences(delivery_filter.account_id or "", event_ids)
        return Page([EventStatus(row, sequences.get(row.event_id)) for row in page.rows], page.next_cursor)

    async def all_statuses(self, delivery_filter: DeliveryFilter) -> AsyncIterator[EventStatus]:
        """All pages of `event_statuses`, in constant memory."""
        cursor: Cursor | None = None
        while True:
            page = await self.statuses(replace(delivery_filter, after=cursor, limit=MAX_PAGE_ROWS))
            for status in page.rows:
                yield status
            if (cursor := page.next_cursor) is None:
                return

    async def find(self, delivery_id: str, account_id: str | None = None) -> DeliveryDetails:
        """Find a delivery. Raises `NotFound`."""
        details = await self._deliveries.find(delivery_id)
        if details is None or account_id not in (None, details.delivery_state.account_id):
            raise NotFound(f"there is no delivery {delivery_id}")
        return details

    async def attempts(
        self, delivery_id: str, cursor: Cursor | None, limit: int, account_id: str | None = None
    ) -> Page[AttemptDetails]:
        """The attempts of a delivery, newest first. Raises `NotFound`."""
        if not (await self._deliveries.list(DeliveryFilter(account_id, ids=[delivery_id], limit=1))).rows:
            raise NotFound(f"there is no delivery {delivery_id}")
        return await self._deliveries.attempts(delivery_id, cursor, limit)

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        """The number of deliveries in each state, by webhook id."""
        return await self._deliveries.count_states()

    async def retry(self, delivery_id: str, *, actor: str, account_id: str | None = None) -> DeliveryState:
        """Send a dead, delivered, discarded or waiting delivery again, with a fresh schedule.

        Raises `NotFound`, or `Invalid` if it cannot be sent again.
        """
        delivery_state = (await self._find_with_payload(delivery_id, account_id)).delivery_state
        if delivery_state.state is State.HELD:
            raise Invalid(FieldError("delivery", f"is held and is sent without a replay: {delivery_state.message}"))
        audit_entry = new_entry(self._clock, actor, "delivery.retried", delivery_id, delivery_state.account_id)
        if not await self._replays.replay(DeliveryFilter(ids=[delivery_id]), audit_entry):
            raise Invalid(FieldError("delivery", _retry_problem(delivery_state)))
        return (await self.find(delivery_id)).delivery_state

    async def retry_some(self, ids: Sequence[str], account_id: str | None, *, actor: str) -> AffectedIds:
        """Retry the deliveries that `retry` accepts, and skip the others."""
        retried_filter = DeliveryFilter(account_id, ids=ids, limit=len(ids))
        return await self._change(self._replays.replay, "deliveries.retried", retried_filter, actor)

    async def _find_with_payload(self, delivery_id: str, account_id: str | None) -> DeliveryDetails:
        """A delivery with its payload. Waits a moment for the payload of a recent delivery."""
        details = await self.find(delivery_id, account_id)
        for _ in range(MAX_PAYLOAD_CHECKS):
            row = details.delivery_state
            if (
                details.body is not None
                or row.reason == ERASED_REASON
                or self._clock.now() - row.changed_at > RECENT_PERIOD
            ):
                break
            await asyncio.sleep(self.payload_check_interval_seconds)
            details = await self.find(delivery_id, account_id)
        return details

    # -- dead letters -------------------------------------------------------------------------------------------

    async def retry_dead_letters(self, ids: Sequence[str], account_id: str | None, *, actor: str) -> AffectedIds:
        """Replay the dead letters among these deliveries."""
        dead_filter = DeliveryFilter(account_id, state=State.DEAD, ids=ids, limit=len(ids))
        return await self._change(self._replays.replay, "dead_letters.retried", dead_filter, actor)

    async def discard_dead_letters(self, ids: Sequence[str], account_id: str | None, *, actor: str) -> AffectedIds:
        """Discard the dead letters among these deliveries."""
        dead_filter = DeliveryFilter(account_id, state=State.DEAD, ids=ids, limit=len(ids))
        return await self._change(self._replays.discard, "dead_letters.discarded", dead_filter, actor)

    async def _change(
        self,
        change: Callable[[DeliveryFilter, AuditEntry], Awaitable[Sequence[str]]],
        action: str,
        delivery_filter: DeliveryFilter,
        actor: str,
    ) -> AffectedIds:
        account_id, ids = delivery_filter.account_id, delivery_filter.ids or ()
        affected_ids = await change(delivery_filter, new_entry(self._clock, actor, action, "*", account_id))
        return AffectedIds(tuple(affected_ids), await self._find_unknown(ids, account_id, affected_ids))

    async def _find_unknown(
        self, ids: Sequence[str], account_id: str | None, affected_ids: Sequence[str]
    ) -> tuple[str, ...]:
        """The requested ids that no delivery of the account has, in their order."""
        affected_set = set(affected_ids)
        unaffected_ids = [item for item in dict.fromkeys(ids) if item not in affected_set]
        if not unaffected_ids:
            return ()
        page = await self._deliveries.list(DeliveryFilter(account_id, ids=unaffected_ids, limit=len(unaffected_ids)))
        existing = {delivery_state.delivery_id for delivery_state in page.rows}
        return tuple(item for item in unaffected_ids if item not in existing)

    # -- jobs ---------------------------------------------------------------------------------------------------

    async def summary(self, delivery_filter: DeliveryFilter) -> DeliverySummary:
        """How many deliveries match, and when the oldest and the newest were first seen."""
        return await self._deliveries.summary(delivery_filter)

    async def start(
        self,
        kind: JobKind,
        delivery_filter: DeliveryFilter,
        account_id: str,
        *,
        actor: str,
        idempotency_key: str | None = None,
    ) -> Job:
        """Start a job on every dead letter of the account that matches at `changed_until`; `maintain` does the work.

        A second call with the same `idempotency_key` returns the same job.
        """
        dead_filter = replace(delivery_filter, state=State.DEAD)
        return await self._start(
            kind, dead_filter, account_id, actor, f"dead_letters.{_PAST_TENSE[kind]}", idempotency_key
        )

    async def start_retry(
        self, delivery_filter: DeliveryFilter, account_id: str, *, actor: str, idempotency_key: str | None = None
    ) -> Job:
        """Start a job that sends every delivery again that matches at `changed_until`. Raises `Invalid`.

        A second call with the same `idempotency_key` returns the same job.
        """
        retry_filter = to_retry_filter(delivery_filter)
        return await self._start(JobKind.RETRY, retry_filter, account_id, actor, "deliveries.retried", idempotency_key)

    async def retry_waiting(self, webhook_id: str, account_id: str, *, actor: str) -> Job:
        """Start a job that sends all deliveries that wait in a tier for this webhook."""
        delivery_filter = DeliveryFilter(webhook_id=webhook_id, state=State.WAITING, in_tier=True)
        return await self._start(JobKind.RETRY, delivery_filter, account_id, actor, "deliveries.retried")

    async def job(self, job_id: str, account_id: str | None = None) -> Job:
        """Find a job. Raises `NotFound`."""
        job = await self._jobs.find(job_id)
        if job is None or account_id not in (None, job.account_id):
            raise NotFound(f"there is no job {job_id}")
        return job

    async def cancel(self, job_id: str, account_id: str | None = None, *, actor: str) -> Job:
        """Stop a job after its current batch, whose work is kept. A second call changes nothing.

        Raises `NotFound`, and `Conflict` for a finished job.
        """
        unfinished_job = await self.job(job_id, account_id)
        audit_entry = new_entry(self._clock, actor, "job.cancelled", job_id, unfinished_job.account_id)
        job = await self._jobs.cancel(job_id, audit_entry)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        if job.status is JobStatus.FINISHED:
            raise Conflict(f"the job is finished: {job.done} of {job.total} deliveries are done")
        return job

    async def _start(
        self,
        kind: JobKind,
        delivery_filter: DeliveryFilter,
        account_id: str,
        actor: str,
        action: str,
        idempotency_key: str | None = None,
    ) -> Job:
        now = self._clock.now()
        # A later dead letter does not match, even if it is one of these that failed again.
        changed_until = min(delivery_filter.changed_until or now, now)
        delivery_filter = replace(delivery_filter, account_id=account_id, changed_until=changed_until, after=None)
        job = Job(
            derived_id("job", account_id, idempotency_key) if idempotency_key else new_id("job"),
            account_id,
            kind,
            delivery_filter,
            now,
        )
        return await self._jobs.add(
            job, new_entry(self._clock, actor, action, job.id, account_id, webhook=delivery_filter.webhook_id)
        )


_PAST_TENSE = {JobKind.RETRY: "retried", JobKind.DISCARD: "discarded"}


def _retry_problem(delivery_state: DeliveryState) -> str:
    if delivery_state.trigger is Trigger.TEST:
        return "is a test, which is not sent again: send a new one"
    if delivery_state.reason == ERASED_REASON:
        return "cannot be sent again: its learner was erased"
    if delivery_state.generation > MAX_RETRIES_PER_DELIVERY:
        return (
            f"was sent again {MAX_RETRIES_PER_DELIVERY} times, the limit: repair the endpoint, "
            "test it with a test event, and publish the event again with another id"
        )
    return "cannot be sent again: its webhook was deleted, or its payload is not kept"
