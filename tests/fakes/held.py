"""What is held, and what people do with deliveries, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fakes.clock import FakeClock
from fakes.records import FakeDeliveryLog, FakeRecorder
from streams.core.account import DeliveryFilter
from streams.core.audit import AuditEntry
from streams.core.delivery import Delivery, HoldReason, State, SubscriptionsPosition, Target, Trigger
from streams.core.delivery_state import HELD_WORDS, DeliveryState
from streams.core.errors import Unavailable
from streams.core.held import Held, HeldChoice, Progress
from streams.core.job import PORTION, Job, JobKind


@dataclass
class FakeHeld:
    """A `HeldDeliveries` of what a `FakeRecorder` recorded."""

    recorder: FakeRecorder

    async def webhooks(self) -> Mapping[str, int]:
        self._check()
        holding = {standing.webhook_id for standing in self._standings(State.HELD)}
        able = sorted(filter(self.recorder.webhooks.can_take, holding))
        return {webhook_id: sum(map(_is_under_way, self.recorder.of(webhook_id))) for webhook_id in able}

    async def oldest(self, webhook_id: str, limit: int) -> Sequence[Held]:
        self._check()
        standings = [standing for standing in self._standings(State.HELD) if standing.webhook_id == webhook_id]
        standings.sort(key=lambda standing: (standing.first_seen_at, standing.delivery_id))
        choices = [(standing, self._choice(standing)) for standing in standings]
        able = [(standing, choice) for standing, choice in choices if choice and self.recorder.has_body(standing)]
        return [Held(self._delivery(standing), choice) for standing, choice in able[:limit]]

    async def progress(self, delivery_ids: Sequence[str]) -> Sequence[Progress]:
        self._check()
        known = [self.recorder.standings[name] for name in delivery_ids if name in self.recorder.standings]
        return [Progress(one.delivery_id, one.state, one.generation, one.step) for one in known]

    def _standings(self, state: State) -> list[DeliveryState]:
        return [standing for standing in self.recorder.standings.values() if standing.state is state]

    def _choice(self, standing: DeliveryState) -> HeldChoice | None:
        return self.recorder.webhooks.pauses.get(standing.pause_id or "", HeldChoice.DELIVER)

    def _delivery(self, standing: DeliveryState) -> Delivery:
        key = standing.account_id, standing.event_id
        return Delivery(
            account_id=standing.account_id,
            event_id=standing.event_id,
            event_type=standing.event_type,
            webhook_id=standing.webhook_id,
            first_seen_at=standing.first_seen_at,
            seen=SubscriptionsPosition("", 0),
            body=self.recorder.bodies[key],
            trigger=standing.trigger,
            generation=standing.generation,
            step=standing.step,
            attempt=standing.attempts + 1,
            target_attempt=standing.target_attempt,
            hold_reason=HoldReason(standing.reason or ""),
            pause_id=standing.pause_id,
            trace_parent=self.recorder.traces.get(key),
        )

    def _check(self) -> None:
        if self.recorder.away:
            raise Unavailable("the database is away")


def _is_under_way(standing: DeliveryState) -> bool:
    return standing.state is State.WAITING and standing.tier is None and standing.step > 1


@dataclass
class FakeReplays:
    """`Replays` of what a `FakeRecorder` recorded."""

    recorder: FakeRecorder

    async def again(self, wanted: DeliveryFilter, deed: AuditEntry | None = None) -> Sequence[str]:
        return [self._replay(standing) for standing in await self._chosen(wanted) if self._may_be_sent(standing)]

    async def discard(self, wanted: DeliveryFilter, deed: AuditEntry | None = None) -> Sequence[str]:
        dead = [standing for standing in await self._chosen(wanted) if standing.state is State.DEAD]
        for standing in dead:
            ended = standing._replace(state=State.DISCARDED, step=standing.step + 1)
            self.recorder.standings[standing.delivery_id] = ended
        return [standing.delivery_id for standing in dead]

    async def _chosen(self, wanted: DeliveryFilter) -> Sequence[DeliveryState]:
        if self.recorder.away:
            raise Unavailable("the database is away")
        newest_first = await FakeDeliveryLog(self.recorder).list(replace(wanted, limit=10**9))
        return newest_first.rows[::-1][: wanted.limit]

    def _may_be_sent(self, standing: DeliveryState) -> bool:
        lives = self.recorder.webhooks.live(standing.webhook_id) is not None
        return (
            lives
            and self.recorder.has_body(standing)
            and standing.state is not State.HELD
            and standing.trigger is not Trigger.TEST
        )

    def _replay(self, standing: DeliveryState) -> str:
        self.recorder.standings[standing.delivery_id] = standing._replace(
            generation=standing.generation + 1,
            step=1,
            trigger=Trigger.MANUAL,
            state=State.HELD,
            reason=HoldReason.REPLAY,
            words=HELD_WORDS[HoldReason.REPLAY],
            attempts=0,
            target=Target.PRIMARY,
            target_attempt=1,
            tier=None,
            due_at=None,
            pause_id=None,
        )
        return standing.delivery_id


@dataclass
class FakeJobs:
    """`Jobs` that act by a `FakeReplays`."""

    replays: FakeReplays
    clock: FakeClock
    jobs: dict[str, Job] = field(default_factory=dict)
    deeds: list[AuditEntry] = field(default_factory=list)

    async def add(self, job: Job, deed: AuditEntry) -> Job:
        self.jobs[job.id] = replace(job, total=await self._count(job.wanted))
        self.deeds.append(deed)
        return self.jobs[job.id]

    async def find(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    async def unfinished(self) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.finished_at is None]

    async def advance(self, job_id: str) -> Job:
        job = self.jobs[job_id]
        if job.finished_at is None:
            act = self.replays.again if job.kind is JobKind.RETRY else self.replays.discard
            ids = await act(replace(job.wanted, limit=PORTION))
            job = replace(job, done=job.done + len(ids))
            left = await self._count(job.wanted)
            if not ids and (not left or job.gives_up(self.clock.now())):
                job = replace(job, finished_at=self.clock.now(), failed=left)
            self.jobs[job_id] = job
        return job

    async def _count(self, wanted: DeliveryFilter) -> int:
        found = await FakeDeliveryLog(self.replays.recorder).list(replace(wanted, limit=10**9))
        return len(found.rows)
