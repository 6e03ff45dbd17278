"""Every stage with its ports in memory, as one path that can crash and start again."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, TypeVar, cast

from fakes import (
    FakeClock,
    FakeEncryptionCheck,
    FakeHeld,
    FakeLease,
    FakeOutbox,
    FakeRecordConsumer,
    FakeRecorder,
    FakeRecordProducer,
    FakeReplays,
    FakeSealed,
    FakeSender,
    FakeSubscriptions,
    FakeTelemetry,
    cancel_others,
    quiet,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.delivery_state import DeliveryState
from streams.core.event import Event
from streams.core.held import HeldChoice
from streams.core.outcome import Response
from streams.core.schedule import Tier, parse_schedule
from streams.core.slots import Slots
from streams.core.webhook import Registration, Status, Webhook
from streams.ports import Outgoing, Record, RecordValue
from streams.stages.attempt import DeliverPorts, DeliveryPolicy
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.stages.deliver import Deliver
from streams.stages.fan_out import FanOut
from streams.stages.limiting.slot_limiter import SlotLimiter
from streams.stages.publish import Publish
from streams.stages.record import RecordStage
from streams.stages.release_held import ReleaseHeld
from streams.topics import (
    ATTEMPTS,
    DEAD_LETTERS,
    DELIVERIES,
    HELD,
    INVALID,
    SESSION_EVENTS,
    TEST_DELIVERIES,
    retry_topic,
)

CODEC = AvroCodec()
SCHEDULE = parse_schedule("30s,2m,10m")
WAITS = [30, 120, 600]
URL, BACKUP = "https://crm.example.com/hooks", "https://backup.example.com/hooks"
BROKEN = Response(500, {"content-type": "text/plain"}, b"out of order")
SLOTS = 4
HELD_RATE = 200

Port = TypeVar("Port")


class Dying:
    """A port whose process dies in a method of it, before or after it did its work: the call never returns."""

    def __init__(self, port: Any, method: str, *, after: bool) -> None:
        self._port = port
        self._method = method
        self._after = after
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return self._die if name == self._method else getattr(self._port, name)

    async def _die(self, *arguments: Any, **more: Any) -> None:
        if self._after and not self.is_dead:
            await getattr(self._port, self._method)(*arguments, **more)
        self.is_dead = True
        await asyncio.Event().wait()


class Path:
    """Every stage with its ports in memory; `start` is also what follows a crash.

    `dying` names ports (`sender`, `drain.log` …) and where their process dies, once.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = FakeRecordProducer(self.clock)
        self.outbox = FakeOutbox()
        self.sender = FakeSender(self.clock)
        self.recorder = FakeRecorder(self.outbox)
        self.replays = FakeReplays(self.recorder)
        self.report = FakeTelemetry()
        self.dying: dict[str, tuple[str, bool]] = {}
        self.died: list[Dying] = []
        self.start()

    def start(self) -> None:
        log, recorder = self.log, self.recorder
        self.view = FakeSubscriptions(log, CODEC)
        self.fan_out = FanOut(CODEC, self._port("fan-out.view", self.view), self._port("fan-out.log", log), self.report)
        publish = Publish(
            self._port("publish.outbox", self.outbox),
            FakeLease(),
            self._port("publish.log", log),
            CODEC,
            self.report,
            FakeEncryptionCheck(),
            self.clock,
            lambda: "first",
        )
        sealed, sender = FakeSealed(), self._port("deliver.sender", self.sender)
        to_log = self._port("deliver.log", log)
        world = DeliverPorts(CODEC, self.view, recorder, sealed, sender, to_log, self.clock, self.report)
        self.slots = SlotLimiter(Slots(SLOTS), lambda: self.clock.now().timestamp())
        deliver = Deliver(world, DeliveryPolicy(SCHEDULE), self.slots)
        due = FakeRecordConsumer(log, "deliver", [DELIVERIES, TEST_DELIVERIES, *map(retry_topic, SCHEDULE.tiers)])
        self.feed = due
        due = self._port("deliver.feed", due)
        intake = PartitionConsumer(due, deliver.take, self.clock, self.report, later=self.clock.later)
        done = FakeRecordConsumer(log, "record", [DELIVERIES, TEST_DELIVERIES, HELD, DEAD_LETTERS, ATTEMPTS])
        done = self._port("record.feed", done)
        record = RecordStage(done, CODEC, self._port("record.recorder", recorder), log, self.clock, self.report)
        self.drain = ReleaseHeld(
            self._port("drain.held", FakeHeld(recorder)),
            self._port("drain.recorder", recorder),
            self.view,
            self._port("drain.log", log),
            CODEC,
            self.clock,
            self.report,
            HELD_RATE,
        )
        self.view.find("")
        parts = publish.run(self.view.view), intake.run(), record.run()
        self.running = [asyncio.create_task(part) for part in parts]

    def _port(self, name: str, port: Port) -> Port:
        if name not in self.dying:
            return port
        method, after = self.dying.pop(name)
        dying = Dying(port, method, after=after)
        self.died.append(dying)
        return cast(Port, dying)

    async def die(self, port: str, method: str, *, after: bool) -> None:
        """From now on a process dies where it calls this."""
        self.dying[port] = method, after
        await self.crash()
        await quiet()

    @property
    def is_dead(self) -> bool:
        return any(dying.is_dead for dying in self.died)

    async def crash(self) -> None:
        """All processes at once; only what a broker and a database keep is left."""
        await cancel_others()
        self.log.revive()
        self.start()

    async def register(self, *webhooks: Webhook) -> None:
        for changed in webhooks:
            self.outbox.put(changed)
        await quiet()

    async def remove(self, webhook_id: str) -> None:
        self.outbox.remove(webhook_id)
        await quiet()

    async def enable(self, choice: HeldChoice = HeldChoice.DELIVER, webhook_id: str = "wh_crm") -> None:
        """End the pause of a webhook."""

        def awake(known: Registration) -> Registration:
            return replace(known, webhook=replace(known.webhook, status=Status.ACTIVE, pause=None))

        await self.outbox.change(webhook_id, awake, choice)
        await quiet()

    async def happen(self, *events: Event) -> None:
        await self.fan_out.handle([self.publish_event(event) for event in events])
        await quiet()

    def publish_event(self, event: Event) -> Record:
        return self.publish_bytes(CODEC.encode(event))

    def publish_bytes(self, value: bytes | None) -> Record:
        return self.log.append(Outgoing(SESSION_EVENTS, b"sess_abc123", value, [("trace", b"1")]))

    async def put(self, topic: str, noun: RecordValue) -> None:
        self.log.append(Outgoing(topic, b"wh_crm", CODEC.encode(noun)))
        await quiet()

    async def wait(self, seconds: float) -> None:
        await quiet()
        self.clock.advance(seconds)
        await quiet()

    async def wait_out(self, tier: Tier) -> None:
        """Until what waits in the tier has left it."""
        await self.wait(tier.wait.total_seconds() + 0.01)

    def sent(self) -> Counter[str]:
        """How often each event was sent."""
        return Counter(request.headers["webhook-id"] for request in self.sender.requests)

    def deliveries(self, topic: str = DELIVERIES) -> list[Delivery]:
        nouns = [CODEC.decode(record.value or b"") for record in self.log.topic(topic)]
        return [noun for noun in nouns if isinstance(noun, Delivery)]

    def letters(self) -> list[DeadLetter]:
        nouns = [CODEC.decode(record.value or b"") for record in self.log.topic(DEAD_LETTERS)]
        return [noun for noun in nouns if isinstance(noun, DeadLetter)]

    def attempts(self) -> list[Attempt]:
        return sorted(self.recorder.attempts.values(), key=lambda attempt: attempt.number)

    def standing(self) -> DeliveryState:
        (standing,) = self.recorder.standings.values()
        return standing

    def parked(self) -> list[tuple[bytes | None, dict[str, bytes]]]:
        return [(record.value, dict(record.headers)) for record in self.log.topic(INVALID)]
