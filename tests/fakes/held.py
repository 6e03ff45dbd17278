"""Held deliveries, replays and jobs, in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fakes.clock import FakeClock
from fakes.records import FakeDeliveryStore, FakeRecorder
from streams.adapters.sql.deliveries.held import LOST_PROBE_AGE
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.backfill import Backfill
from streams.core.deliveries.delivery import Delivery, HoldReason, State, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.delivery_state import HELD_MESSAGES, Batch, DeliveryState
from streams.core.deliveries.held import HeldChoice, HeldDelivery, Probe, PulledWebhook, ReleaseProgress
from streams.core.deliveries.job import PORTION_SIZE, Job, JobKind
from streams.core.erasures.erasure import ERASED_REASON
from streams.core.errors import Conflict, Unavailable
from streams.core.failed_work import FailedRow, FailedRows
from streams.core.limits import MAX_RETRIES_PER_DELIVERY, MAX_UNFINISHED_JOBS_PER_ACCOUNT
from streams.core.webhooks.probe import next_probe_at, probe_number
from streams.core.webhooks.webhook import DeliveryMode, Status


@dataclass
class FakeHeld:
    """`HeldDeliveries` of a `FakeRecorder`. The progress of `odd_ids` cannot be read."""

    recorder: FakeRecorder
    odd_ids: Collection[str] = ()

    async def webhooks(self) -> Mapping[str, int]:
        self._check()
        holding = {state.webhook_id for state in self._in_state(State.HELD) if not _is_for_readers(state)}
        able = sorted(filter(self.recorder.webhooks.can_take, holding))
        return {webhook_id: sum(map(_is_under_way, self.recorder.of(webhook_id))) for webhook_id in able}

    async def oldest(
        self, webhook_id: str, limit: int, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[HeldDelivery]:
        self._check()
        held = [state for state in self._in_state(State.HELD) if not _is_for_readers(state)]
        delivery_states = [state for state in held if state.webhook_id == webhook_id]
        delivery_states.sort(key=lambda state: (state.first_seen_at, state.delivery_id))
        choices = [(state, self._choice(state)) for state in delivery_states]
        able = [(state, choice) for state, choice in choices if choice and self.recorder.has_body(state)]
        able = [(state, choice) for state, choice in able if state.delivery_id not in excluded]
        return [HeldDelivery(self._delivery(state), choice) for state, choice in able[:limit]]

    async def pulled_webhooks(self) -> Sequence[PulledWebhook]:
        self._check()
        webhook_ids = sorted({state.webhook_id for state in self._in_state(State.HELD) if _is_for_readers(state)})
        return [self._pulled(name) for name in webhook_ids if not self.recorder.webhooks.is_dirty(name)]

    def _pulled(self, webhook_id: str) -> PulledWebhook:
        live = self.recorder.webhooks.live(webhook_id)
        is_pull = live is not None and live.webhook.delivery is DeliveryMode.PULL
        is_active = live is not None and live.webhook.status is Status.ACTIVE
        return PulledWebhook(webhook_id, is_pull, is_active, self.recorder.webhooks.has_ended(webhook_id), None, None)

    async def unacknowledged(
        self,
        webhook_id: str,
        held_before: datetime,
        now: datetime,
        limit: int,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> Sequence[HeldDelivery]:
        self._check()
        waiting = [state for state in self._in_state(State.HELD) if _is_for_readers(state)]
        late = [state for state in waiting if state.webhook_id == webhook_id and state.changed_at < held_before]
        late = [state for state in late if state.delivery_id not in excluded]
        return [HeldDelivery(self._delivery(one), HeldChoice.DELIVER, is_unacknowledged=True) for one in late[:limit]]

    async def to_requests(self, webhook_id: str, now: datetime, limit: int) -> int:
        self._check()
        waiting = [state for state in self._in_state(State.HELD) if _is_for_readers(state)]
        waiting = [state for state in waiting if state.webhook_id == webhook_id][:limit]
        for state in waiting:
            changed = state._replace(reason=str(HoldReason.REPLAY), due_at=None)
            self.recorder.delivery_states[state.delivery_id] = changed
        return len(waiting)

    async def due_probes(
        self, now: datetime, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[Probe]:
        self._check()
        webhook_ids = sorted(self.recorder.webhooks.live_ids())
        probes = [self._probe(webhook_id, now, excluded) for webhook_id in webhook_ids]
        return [probe for probe in probes if probe]

    def _probe(self, webhook_id: str, now: datetime, excluded: Collection[str]) -> Probe | None:
        live = self.recorder.webhooks.live(webhook_id)
        if live is None or live.probe_at is None or live.probe_at > now or live.webhook.pause is None:
            return None
        pause_id, states = live.webhook.pause.id, self.recorder.of(webhook_id)
        is_under_way = any(
            one.state is State.WAITING and one.pause_id == pause_id and one.changed_at > now - LOST_PROBE_AGE
            for one in states
        )
        if is_under_way or self.recorder.webhooks.is_dirty(webhook_id):
            return None
        held = [one for one in states if one.state is State.HELD and one.pause_id == pause_id]
        held = [one for one in held if one.delivery_id not in excluded]
        held.sort(key=lambda state: (state.first_seen_at, state.delivery_id))
        number = probe_number(live.paused_at or now, now)
        return Probe(self._delivery(held[number if number < len(held) else 0]), pause_id) if held else None

    async def move_probe(self, webhook_id: str, pause_id: str, now: datetime) -> None:
        self._check()
        live = self.recorder.webhooks.live(webhook_id)
        if live and live.paused_at and live.probe_at and live.webhook.pause and live.webhook.pause.id == pause_id:
            self.recorder.webhooks.set_probe_at(webhook_id, next_probe_at(live.paused_at, now))

    async def progress(self, delivery_ids: Sequence[str], failed_rows: FailedRows = None) -> Sequence[ReleaseProgress]:
        self._check()
        known = [self.recorder.delivery_states[name] for name in delivery_ids if name in self.recorder.delivery_states]
        if failed_rows is not None:
            failed_rows += [FailedRow(one.delivery_id, one.account_id, "odd") for one in known if self._is_odd(one)]
        fit = [one for one in known if not self._is_odd(one)]
        return [
            ReleaseProgress(one.delivery_id, one.state, one.generation, one.step, _is_for_readers(one)) for one in fit
        ]

    def _is_odd(self, state: DeliveryState) -> bool:
        return state.delivery_id in self.odd_ids

    def _in_state(self, state: State) -> list[DeliveryState]:
        return [one for one in self.recorder.delivery_states.values() if one.state is state]

    def _choice(self, state: DeliveryState) -> HeldChoice | None:
        return self.recorder.webhooks.pauses.get(state.pause_id or "", HeldChoice.DELIVER)

    def _delivery(self, state: DeliveryState) -> Delivery:
        key = state.account_id, state.event_id
        return Delivery(
            account_id=state.account_id,
            event_id=state.event_id,
            event_type=state.event_type,
            webhook_id=state.webhook_id,
            first_seen_at=state.first_seen_at,
            subscriptions_position=SubscriptionsPosition("", 0),
            body=self.recorder.events[key].body,
            trigger=state.trigger,
            generation=state.generation,
            step=state.step,
            attempt=state.attempts + 1,
            target_attempt=state.target_attempt,
            hold_reason=HoldReason(state.reason or ""),
            pause_id=state.pause_id,
            trace_parent=self.recorder.events[key].trace_parent,
            subjects=self.recorder.events[key].subjects,
            event_hash=self.recorder.events[key].hash,
        )

    def _check(self) -> None:
        if self.recorder.away:
            raise Unavailable("the database is away")


def _is_for_readers(state: DeliveryState) -> bool:
    return state.reason == HoldReason.PULL


def _is_under_way(state: DeliveryState) -> bool:
    return state.state is State.WAITING and state.tier is None and state.step > 1


@dataclass
class FakeReplays:
    """`Replays` of a `FakeRecorder`."""

    recorder: FakeRecorder
    clock: FakeClock

    async def replay(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        fit = [one for one in await self.matching(wanted) if self.may_be_sent(one) and self.recorder.has_body(one)]
        return [self._replay(state, wanted.change_at(self.clock.now())) for state in fit[: wanted.limit]]

    async def discard(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        dead = [state for state in await self.matching(wanted) if state.state is State.DEAD][: wanted.limit]
        for state in dead:
            at = wanted.change_at(self.clock.now())
            self.recorder.change(state._replace(state=State.DISCARDED, step=state.step + 1, changed_at=at))
        return [state.delivery_id for state in dead]

    async def matching(self, wanted: DeliveryFilter) -> Sequence[DeliveryState]:
        """All of them, oldest first."""
        if self.recorder.away:
            raise Unavailable("the database is away")
        return (await FakeDeliveryStore(self.recorder).list(replace(wanted, limit=10**9))).rows[::-1]

    def may_be_sent(self, state: DeliveryState) -> bool:
        """Whether it can be sent again, now or once its payload is stored."""
        lives = self.recorder.webhooks.live(state.webhook_id) is not None
        is_fit = state.state is not State.HELD and state.reason != ERASED_REASON and state.trigger is not Trigger.TEST
        return lives and is_fit and state.generation <= MAX_RETRIES_PER_DELIVERY

    def _replay(self, state: DeliveryState, at: datetime) -> str:
        again = state._replace(
            generation=state.generation + 1,
            step=1,
            trigger=Trigger.MANUAL,
            state=State.HELD,
            reason=HoldReason.REPLAY,
            message=HELD_MESSAGES[HoldReason.REPLAY],
            attempts=0,
            target=Target.PRIMARY,
            target_attempt=1,
            tier=None,
            due_at=None,
            pause_id=None,
            changed_at=at,
        )
        self.recorder.change(again)
        return state.delivery_id


@dataclass
class FakeJobs:
    """`Jobs` that use a `FakeReplays`."""

    replays: FakeReplays
    jobs: dict[str, Job] = field(default_factory=dict)
    audit_trail: list[AuditEntry] = field(default_factory=list)
    portion_size: int = PORTION_SIZE

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        if job.id in self.jobs:
            return self.jobs[job.id]
        mine = [one for one in self.jobs.values() if one.finished_at is None and one.account_id == job.account_id]
        for other in mine:
            if job.kind is other.kind is JobKind.REPLAY and job.filter.webhook_id == other.filter.webhook_id:
                raise Conflict(f"a replay of this webhook is under way, {other.id}")
        if len(mine) >= MAX_UNFINISHED_JOBS_PER_ACCOUNT:
            raise Conflict("too many jobs of the account are under way")
        self.jobs[job.id] = replace(job, total=len(await self.replays.matching(job.filter)))
        self.audit_trail.append(audit_entry)
        return self.jobs[job.id]

    async def find(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    async def list_unfinished(self, after: str, failed_rows: FailedRows = None) -> Sequence[Job]:
        behind = [job for job in self.jobs.values() if job.finished_at is None and job.account_id > after]
        following = min((job.account_id for job in behind), default=None)
        return [job for job in behind if job.account_id == following][:MAX_UNFINISHED_JOBS_PER_ACCOUNT]

    async def do_next_portion(self, job_id: str) -> Job:
        job, now = self.jobs[job_id], self.replays.clock.now()
        if job.finished_at is not None:
            return job
        act = self.replays.discard if job.kind is JobKind.DISCARD else self.replays.replay
        if ids := await act(replace(job.filter, limit=self.portion_size)):
            states = self.replays.recorder.delivery_states
            job = job.with_progress(len(ids), max(states[name].first_seen_at for name in ids))
        elif job.has_pending_backfill:
            job = job.with_backfill_due()
        elif job.is_settled(now):
            left = await self.replays.matching(job.filter)
            if job.has_given_up(now) or not any(map(self.replays.may_be_sent, left)):
                job = job.to_finished(now, len(left))
        self.jobs[job_id] = job
        return job

    async def store_backfill(self, job: Job, progress: Backfill, batch: Batch) -> Job:
        stored, recorder = self.jobs[job.id], self.replays.recorder
        if stored.finished_at is not None or stored.backfill != job.backfill:
            return stored
        new = [state for state in batch.delivery_states if state.delivery_id not in recorder.delivery_states]
        await recorder.record(replace(batch, delivery_states=new))
        skipped = len(batch.delivery_states) - len(new)
        progress = replace(progress, added=progress.added + len(new), skipped=progress.skipped + skipped)
        self.jobs[job.id] = replace(stored, backfill=progress)
        return self.jobs[job.id]

    async def cancel(self, job_id: str, audit_entry: AuditEntry) -> Job | None:
        job = self.jobs.get(job_id)
        if job is None or job.finished_at is not None:
            return job
        self.audit_trail.append(audit_entry)
        self.jobs[job_id] = replace(job, finished_at=self.replays.clock.now(), cancelled=True)
        return self.jobs[job_id]
