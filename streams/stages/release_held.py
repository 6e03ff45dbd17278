"""Send on what is held, oldest first, to webhooks that can take it and at the pace that they show."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from streams.core.attempt import DeadLetter
from streams.core.delivery import DeathReason, State, SubscriptionsPosition
from streams.core.delivery_state import Batch, DeliveryState, state_of_record
from streams.core.errors import InvalidRecord, RecordsRefused, Unavailable
from streams.core.held import Held, HeldChoice, Progress, Room
from streams.core.rate import Pace
from streams.ports import Clock, Codec, HeldDeliveries, Outgoing, Recorder, RecordProducer, Subscriptions, Telemetry
from streams.stages.invalid_records import run_pure
from streams.topics import DEAD_LETTERS, DELIVERIES

CYCLE_SECONDS = 0.1
IDLE_SECONDS = 0.5
REST_SECONDS = 0.02
# What leaves at once leaves in at most so many bites.
BITES = 10
SMALLEST_BITE = 10
# Whoever publishes beside this has the database too.
QUESTIONS_AT_ONCE = 4
WEBHOOKS_AT_ONCE = 32
DELIVERIES_AT_ONCE = 2000
ASK_AT_ONCE = 1000

KEPT_WORDS = "The webhook was enabled with the choice to keep what it was owed as dead letters."
DISCARDED_MESSAGE = "The webhook was enabled with the choice to discard what it was owed."


# The record that ends a hold, if any, and how the delivery stands then.
Moved = tuple[Outgoing | None, DeliveryState]


@dataclass(slots=True)
class _ProduceLane:
    """One webhook: its pace, its room, and the (generation, step) of what was sent on, not known to be attempted."""

    pace: Pace
    room: Room = field(default_factory=Room)
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    rests_until: float = 0.0


class ReleaseHeld:
    """By state and not by a job: whatever is held and may leave leaves, whoever held it and whenever.

    At most `per_second` leave to one webhook in a second: what comes new shares every stage with them.

    Produce → acknowledged → recorded: a crash between the two sends the same records, with the same steps, again.
    """

    def __init__(
        self,
        held: HeldDeliveries,
        recorder: Recorder,
        subscriptions: Subscriptions,
        producer: RecordProducer,
        codec: Codec,
        clock: Clock,
        telemetry: Telemetry,
        per_second: int,
    ) -> None:
        self._held = held
        self._recorder = recorder
        self._subscriptions = subscriptions
        self._producer = producer
        self._codec = codec
        self._clock = clock
        self._telemetry = telemetry
        self._per_second = per_second
        self._asking = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._lanes: dict[str, _ProduceLane] = {}

    async def run(self) -> None:
        """Serve until cancelled; a database outage is waited out."""
        while True:
            began = asyncio.get_running_loop().time()
            # Whoever publishes beside this tells of it.
            with suppress(Unavailable):
                await self.cycle()
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(CYCLE_SECONDS - took, REST_SECONDS) if self._lanes else IDLE_SECONDS)

    async def cycle(self) -> int:
        """One look at every webhook that holds something and can take it; how many deliveries left."""
        now = self._clock.now().timestamp()
        await self._learn(now)
        can_take = await self._held.webhooks()
        self._lanes = {
            name: lane for name, lane in self._lanes.items() if name in can_take or lane.sent or now < lane.rests_until
        }
        rooms = {name: self._room(name, under_way, now) for name, under_way in can_take.items()}
        left = 0
        portions = list(_portions({name: room for name, room in rooms.items() if room > 0}))
        for some in portions:
            left += await self._drain(some, CYCLE_SECONDS / len(portions))
        return left

    async def _learn(self, now: float) -> None:
        """What became of those that were sent on tells each endpoint's pace."""
        sent = [delivery_id for lane in self._lanes.values() for delivery_id in lane.sent]
        found: dict[str, Progress] = {}
        for start in range(0, len(sent), ASK_AT_ONCE):
            progress = await self._held.progress(sent[start : start + ASK_AT_ONCE])
            found |= {one.delivery_id: one for one in progress}
        for lane in self._lanes.values():
            known = {delivery_id: found[delivery_id] for delivery_id in lane.sent if delivery_id in found}
            under_way = {name: step for name, step in lane.sent.items() if name in known and _waits(known[name], step)}
            held_again = sum(one.state is State.HELD for one in known.values())
            if lane.sent:
                lane.room = lane.room.after(len(lane.sent) - len(under_way) - held_again, held_again)
                lane.rests_until = now + lane.room.rest_seconds
            lane.sent = under_way

    def _room(self, webhook_id: str, under_way: int, now: float) -> int:
        """How many may be sent on to a webhook now."""
        lane = self._lanes.setdefault(webhook_id, _ProduceLane(Pace(self._per_second)))
        return 0 if now < lane.rests_until else min(lane.room.size - under_way, lane.pace.room(now))

    async def _drain(self, rooms: Mapping[str, int], seconds: float) -> int:
        """Send on what there is room for, of several webhooks at once, within so long: they share the waits."""
        found = await asyncio.gather(*(self._oldest(name, room) for name, room in rooms.items()))
        held = [one for some in found for one in some]
        if not held:
            return 0
        seen = await self._subscriptions.catch_up()
        moved = [self._try_to_move(one, seen) for one in held]
        refused = await self._produce([outgoing for outgoing, _ in moved if outgoing is not None], seconds)
        moved = [self._given_up(one, refused[id(one[0])]) if id(one[0]) in refused else one for one in moved]
        await self._recorder.record(Batch([delivery_state for _, delivery_state in moved]))
        sent, ended = Counter[str](), Counter[str]()
        for one, (_, delivery_state) in zip(held, moved, strict=True):
            self._telemetry.count("deliveries_released_total", choice=one.choice)
            if delivery_state.state is State.WAITING:
                self._lanes[delivery_state.webhook_id].sent[delivery_state.delivery_id] = (
                    delivery_state.generation,
                    delivery_state.step,
                )
                sent[delivery_state.webhook_id] += 1
            else:
                ended[delivery_state.webhook_id] += 1
        for name, count in sent.items():
            self._lanes[name].pace.take(count)
        # What is kept or discarded asks nothing of the endpoint, whose pace it need not keep.
        for name, count in ended.items():
            self._lanes[name].room = self._lanes[name].room.after(count, 0)
        return len(held)

    async def _produce(self, records: Sequence[Outgoing], seconds: float) -> Mapping[int, str]:
        """Evenly over so long: between the bites whoever delivers them attends to what comes new.

        By their `id`: the records that Kafka never takes, and why.
        """
        size = max(SMALLEST_BITE, math.ceil(len(records) / BITES))
        reasons: dict[int, str] = {}
        for start in range(0, len(records), size):
            if start:
                await asyncio.sleep(seconds / BITES)
            bite = records[start : start + size]
            try:
                await self._producer.produce(bite)
            except RecordsRefused as refused:
                reasons |= {id(bite[index]): why for index, why in refused.reasons.items()}
        return reasons

    def _try_to_move(self, one: Held, seen: SubscriptionsPosition) -> Moved:
        try:
            return run_pure(partial(self._move, one, seen))
        except InvalidRecord as wrong:
            delivery = one.delivery.sent_on()._replace(subscriptions_position=seen)
            return self._given_up((None, state_of_record(delivery, self._clock.now())), str(wrong))

    def _given_up(self, moved: Moved, why: str) -> Moved:
        """One that can never be sent on becomes a dead letter, and holds no other up."""
        self._telemetry.count("dead_letters_total", reason=DeathReason.REFUSED)
        message = f"It cannot be sent on: {why}"
        return None, moved[1]._replace(state=State.DEAD, due_at=None, reason=str(DeathReason.REFUSED), message=message)

    async def _oldest(self, webhook_id: str, room: int) -> Sequence[Held]:
        async with self._asking:
            return await self._held.oldest(webhook_id, room)

    def _move(self, one: Held, seen: SubscriptionsPosition) -> Moved:
        """The record that ends a hold, if any, and how the delivery stands then."""
        now = self._clock.now()
        key = one.delivery.webhook_id.encode()
        delivery = one.delivery.sent_on()._replace(subscriptions_position=seen)
        if one.choice is HeldChoice.KEEP:
            letter = DeadLetter(delivery, DeathReason.KEPT, KEPT_WORDS)
            return Outgoing(DEAD_LETTERS, key, self._codec.encode(letter)), state_of_record(letter, now)
        delivery_state = state_of_record(delivery, now)
        if one.choice is HeldChoice.DISCARD:
            return None, delivery_state._replace(state=State.DISCARDED, due_at=None, message=DISCARDED_MESSAGE)
        return Outgoing(DELIVERIES, key, self._codec.encode(delivery)), delivery_state


def _waits(progress: Progress, sent: tuple[int, int]) -> bool:
    return progress.state is State.WAITING and (progress.generation, progress.step) == sent


def _portions(rooms: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The rooms in portions of so many webhooks and so many deliveries as may be in memory at once."""
    portion: dict[str, int] = {}
    for name, room in rooms.items():
        if portion and (len(portion) == WEBHOOKS_AT_ONCE or sum(portion.values()) + room > DELIVERIES_AT_ONCE):
            yield portion
            portion = {}
        portion[name] = room
    if portion:
        yield portion
