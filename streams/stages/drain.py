"""Send on what is held, oldest first, to webhooks that can take it and at the pace that they show."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace

from streams.core.attempt import DeadLetter
from streams.core.delivery import DeathReason, State, ViewPosition
from streams.core.errors import Unavailable
from streams.core.held import Held, HeldChoice, Progress, Room
from streams.core.rate import Pace
from streams.core.standing import Batch, Standing, standing_of_owed
from streams.ports import Clock, Codec, HeldDeliveries, Log, Outgoing, Recorder, Report, Subscriptions
from streams.topics import DEAD_LETTERS, DELIVERIES

CYCLE_SECONDS = 0.1
IDLE_SECONDS = 0.5
# So many webhooks share the waits for the broker and the database.
AT_ONCE = 4

KEPT_WORDS = "The webhook was enabled with the choice to keep what it was owed as dead letters."
DISCARDED_WORDS = "The webhook was enabled with the choice to discard what it was owed."


@dataclass(slots=True)
class _Lane:
    """One webhook: its pace, its room, and the (generation, step) of what was sent on, not known to be attempted."""

    pace: Pace
    room: Room = field(default_factory=Room)
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    rests_until: float = 0.0


class Drain:
    """By state and not by a job: whatever is held and may leave leaves, whoever held it and whenever.

    At most `per_second` leave to one webhook in a second: what comes new shares every stage with them.

    Produce → acknowledged → recorded: a crash between the two sends the same records, with the same steps, again.
    """

    def __init__(
        self,
        held: HeldDeliveries,
        recorder: Recorder,
        subscriptions: Subscriptions,
        log: Log,
        codec: Codec,
        clock: Clock,
        report: Report,
        per_second: int,
    ) -> None:
        self._held = held
        self._recorder = recorder
        self._subscriptions = subscriptions
        self._log = log
        self._codec = codec
        self._clock = clock
        self._report = report
        self._per_second = per_second
        self._lanes: dict[str, _Lane] = {}

    async def run(self) -> None:
        """Serve until cancelled; a database outage is waited out."""
        while True:
            # Whoever publishes beside this tells of it.
            with suppress(Unavailable):
                await self.cycle()
            await asyncio.sleep(CYCLE_SECONDS if self._lanes else IDLE_SECONDS)

    async def cycle(self) -> int:
        """One look at every webhook that holds something and can take it; how many deliveries left."""
        now = self._clock.now().timestamp()
        for lane in self._lanes.values():
            await self._learn(lane, now)
        can_take = await self._held.webhooks()
        self._lanes = {
            name: lane for name, lane in self._lanes.items() if name in can_take or lane.sent or now < lane.rests_until
        }
        turns = list(can_take.items())
        left = 0
        for some in (turns[start : start + AT_ONCE] for start in range(0, len(turns), AT_ONCE)):
            left += sum(await asyncio.gather(*(self._drain(name, under_way, now) for name, under_way in some)))
        return left

    async def _learn(self, lane: _Lane, now: float) -> None:
        """What became of those that were sent on tells the endpoint's pace."""
        if not lane.sent:
            return
        progress = await self._held.progress(list(lane.sent))
        under_way = {one.delivery_id for one in progress if _is_under_way(one, lane.sent[one.delivery_id])}
        held_again = sum(one.state is State.HELD for one in progress)
        lane.room = lane.room.after(len(lane.sent) - len(under_way) - held_again, held_again)
        lane.rests_until = now + lane.room.rest_seconds
        lane.sent = {delivery_id: lane.sent[delivery_id] for delivery_id in under_way}

    async def _drain(self, webhook_id: str, under_way: int, now: float) -> int:
        lane = self._lanes.setdefault(webhook_id, _Lane(Pace(self._per_second)))
        room = min(lane.room.size - under_way, lane.pace.room(now))
        if room <= 0 or now < lane.rests_until:
            return 0
        held = await self._held.oldest(webhook_id, room)
        if not held:
            return 0
        seen = await self._subscriptions.catch_up()
        moved = [self._move(one, seen) for one in held]
        await self._log.produce([outgoing for outgoing, _ in moved if outgoing is not None])
        await self._recorder.record(Batch([standing for _, standing in moved]))
        for one, (_, standing) in zip(held, moved, strict=True):
            self._report.count("deliveries_sent_on_total", choice=one.choice)
            if standing.state is State.WAITING:
                lane.sent[standing.delivery_id] = standing.generation, standing.step
        ended = sum(standing.state is not State.WAITING for _, standing in moved)
        lane.pace.take(len(held) - ended)
        # What is kept or discarded asks nothing of the endpoint, whose pace it need not keep.
        if ended:
            lane.room = lane.room.after(ended, 0)
        return len(held)

    def _move(self, one: Held, seen: ViewPosition) -> tuple[Outgoing | None, Standing]:
        """The record that ends a hold, if any, and how the delivery stands then."""
        now = self._clock.now()
        key = one.delivery.webhook_id.encode()
        delivery = replace(one.delivery.sent_on(), seen=seen)
        if one.choice is HeldChoice.KEEP:
            letter = DeadLetter(delivery, DeathReason.KEPT, KEPT_WORDS)
            return Outgoing(DEAD_LETTERS, key, self._codec.encode(letter)), standing_of_owed(letter, now)
        standing = standing_of_owed(delivery, now)
        if one.choice is HeldChoice.DISCARD:
            return None, replace(standing, state=State.DISCARDED, due_at=None, words=DISCARDED_WORDS)
        return Outgoing(DELIVERIES, key, self._codec.encode(delivery)), standing


def _is_under_way(progress: Progress, sent: tuple[int, int]) -> bool:
    return progress.state is State.WAITING and (progress.generation, progress.step) == sent
