"""Every stage on fake ports, as one path that can crash and restart."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, TypeVar, cast

from fakes import (
    FakeClock,
    FakeEncryption,
    FakeEncryptionCheck,
    FakeErasedLearners,
    FakeHeld,
    FakeKafka,
    FakeLease,
    FakeOutbox,
    FakeRecordConsumer,
    FakeRecorder,
    FakeReplays,
    FakeSender,
    FakeSubscriptions,
    FakeTelemetry,
    cancel_others,
    postponed_work,
    quiet,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.schedule import Tier, parse_schedule
from streams.core.events.event import Event
from streams.core.queues.slots import Slots
from streams.core.webhooks.webhook import Registration, Status, Webhook
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Record, RecordValue
from streams.stages.attempt import DeliverPorts, DeliveryPolicy
from streams.stages.consuming.batch_consumer import Batching
from streams.stages.consuming.partition_consumer import Pacing, PartitionConsumer
from streams.stages.deliver import Deliver
from streams.stages.end_pulls import EndPulls
from streams.stages.fan_out import FanOut
from streams.stages.lease import LeaseKeeper
from streams.stages.limiting.slot_limiter import SlotLimiter
from streams.stages.probe_paused import ProbePaused
from streams.stages.publish import Publish
from streams.stages.record import RecordStage
from streams.stages.release_held import ReleaseHeld, ReleaseLimits
from streams.topics import (
    BULK_DELIVERIES,
    DEAD_LETTERS,
    DELIVERIES,
    INVALID,
    RECORD_INPUTS,
    SESSION_EVENTS,
    TEST_DELIVERIES,
    retry_topic,
)

DELIVERED = (DELIVERIES, BULK_DELIVERIES, TEST_DELIVERIES)
CODEC = AvroCodec()
SCHEDULE = parse_schedule("30s,2m,10m")
WAITS = [30, 120, 600]
URL, BACKUP = "https://crm.example.com/hooks", "https://backup.example.com/hooks"
BROKEN = Response(500, {"content-type": "text/plain"}, b"out of order")
SLOTS = 4
RELEASE_RATE = 200
PACING = Pacing(commit_interval_seconds=0)
AT_ONCE = Batching(min_interval_seconds=0, linger_seconds=0)

Port = TypeVar("Port")


class CrashingPort:
    """A port whose process crashes in one of its methods, before or after the call; the call never returns."""

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


class Pipeline:
    """Every stage with its ports in memory; `start` also restarts them after a crash.

    `crash_points`: by port (`deliver.sender`, `publish.outbox` …), the method in which the process crashes, once.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.outbox = FakeOutbox(clock=self.clock)
        self.sender = FakeSender(self.clock)
        self.recorder = FakeRecorder(self.outbox)
        self.replays = FakeReplays(self.recorder, self.clock)
        self.erased = FakeErasedLearners()
        self.telemetry = FakeTelemetry()
        self.crash_points: dict[str, tuple[str, bool]] = {}
        self.crashing_ports: list[CrashingPort] = []
        self.release_limits = ReleaseLimits()
        self.start()

    def start(self, batching: Batching = AT_ONCE) -> None:
        kafka, recorder = self.kafka, self.recorder
        outages = Outages(self.telemetry)
        self.table = FakeSubscriptions(kafka, CODEC)
        self.fan_out = FanOut(
            CODEC,
            self._port("fan-out.table", self.table),
            self._port("fan-out.producer", kafka),
            self.telemetry,
            outages,
            now=lambda: self.clock.now().timestamp(),
        )
        work = postponed_work(self.telemetry, self.clock)
        keeper = LeaseKeeper(FakeLease(), FakeEncryptionCheck(), self.telemetry, outages)
        publish = Publish(
            self._port("publish.outbox", self.outbox),
            keeper,
            self._port("publish.producer", kafka),
            CODEC,
            self.telemetry,
            FakeEncryptionCheck(),
            self.clock,
            lambda: "first",
            outages,
            work,
        )
        encryption, sender = FakeEncryption(), self._port("deliver.sender", self.sender)
        producer = self._port("deliver.producer", kafka)
        ports = DeliverPorts(
            CODEC, self.table, recorder, self.erased, encryption, sender, producer, self.clock, self.telemetry
        )
        self.slots = SlotLimiter(Slots(SLOTS), lambda: self.clock.now().timestamp())
        deliver = Deliver(ports, DeliveryPolicy(SCHEDULE), self.slots, outages)
        due = FakeRecordConsumer(kafka, "deliver", [*DELIVERED, *map(retry_topic, SCHEDULE.tiers)])
        self.consumer = due
        due = self._port("deliver.consumer", due)
        partition_consumer = PartitionConsumer(
            due, deliver, producer, self.clock, self.telemetry, outages, call_later=self.clock.later, pacing=PACING
        )
        done = FakeRecordConsumer(kafka, "record", RECORD_INPUTS)
        done = self._port("record.consumer", done)
        recorder_port = self._port("record.recorder", recorder)
        record = RecordStage(done, CODEC, recorder_port, kafka, self.clock, self.telemetry, outages, batching=batching)
        self.held = FakeHeld(recorder)
        self.release_held = ReleaseHeld(
            self._port("release_held.held", self.held),
            self._port("release_held.recorder", recorder),
            self.table,
            self._port("release_held.producer", kafka),
            CODEC,
            self.clock,
            self.telemetry,
            work,
            RELEASE_RATE,
            self.release_limits,
        )
        self.probe_paused = ProbePaused(
            self._port("probe_paused.held", self.held),
            self._port("probe_paused.recorder", recorder),
            self.table,
            self._port("probe_paused.producer", kafka),
            CODEC,
            self.clock,
            self.telemetry,
            work,
        )
        self.end_pulls = EndPulls(
            *(self.outbox, self._port("end_pulls.held", self.held), self.table, self.clock, work),
            self.release_held.end_holds,
        )
        self.table.find("")
        publishing = keeper.hold(lambda: publish.run(self.table.table))
        parts = publishing, partition_consumer.run(), record.run()
        self.running = [asyncio.create_task(part) for part in parts]

    def _port(self, name: str, port: Port) -> Port:
        if name not in self.crash_points:
            return port
        method, after = self.crash_points.pop(name)
        crashing = CrashingPort(port, method, after=after)
        self.crashing_ports.append(crashing)
        return cast(Port, crashing)

    async def crash_at(self, port: str, method: str, *, after: bool) -> None:
        """From now on the process crashes when it calls this."""
        self.crash_points[port] = method, after
        await self.crash()
        await quiet()

    @property
    def is_dead(self) -> bool:
        return any(port.is_dead for port in self.crashing_ports)

    async def crash(self, batching: Batching = AT_ONCE) -> None:
        """Crash and restart all processes; only Kafka and the database keep their data."""
        await cancel_others()
        self.kafka.revive()
        self.start(batching)

    async def register(self, *webhooks: Webhook) -> None:
        for changed in webhooks:
            self.outbox.put(changed)
        await quiet()

    async def remove(self, webhook_id: str) -> None:
        self.outbox.remove(webhook_id)
        await quiet()

    async def enable(self, choice: HeldChoice = HeldChoice.DELIVER, webhook_id: str = "wh_crm") -> None:
        """End the pause of a webhook."""

        def activate(known: Registration) -> Registration:
            return replace(known, webhook=replace(known.webhook, status=Status.ACTIVE, pause=None))

        await self.outbox.change(webhook_id, activate, choice)
        await quiet()

    async def fan_out_events(self, *events: Event) -> None:
        await self.fan_out.handle([self.publish_event(event) for event in events])
        await quiet()

    def publish_event(self, event: Event) -> Record:
        return self.publish_bytes(CODEC.encode(event))

    def publish_bytes(self, value: bytes | None) -> Record:
        return self.kafka.append(Outgoing(SESSION_EVENTS, b"sess_abc123", value, [("trace", b"1")]))

    async def put(self, topic: str, value: RecordValue) -> None:
        self.kafka.append(Outgoing(topic, b"wh_crm", CODEC.encode(value)))
        await quiet()

    async def wait(self, seconds: float) -> None:
        await quiet()
        self.clock.advance(seconds)
        await quiet()

    async def wait_for_tier(self, tier: Tier) -> None:
        """Let the wait of a tier pass."""
        await self.wait(tier.wait.total_seconds() + 0.01)

    def sent(self) -> Counter[str]:
        """How often each event was sent."""
        return Counter(request.headers["webhook-id"] for request in self.sender.requests)

    def deliveries(self, topic: str = DELIVERIES) -> list[Delivery]:
        values = [CODEC.decode(record.value or b"") for record in self.kafka.topic(topic)]
        return [value for value in values if isinstance(value, Delivery)]

    def dead_letters(self) -> list[DeadLetter]:
        values = [CODEC.decode(record.value or b"") for record in self.kafka.topic(DEAD_LETTERS)]
        return [value for value in values if isinstance(value, DeadLetter)]

    def attempts(self) -> list[Attempt]:
        return sorted(self.recorder.attempts.values(), key=lambda attempt: attempt.number)

    def delivery_state(self) -> DeliveryState:
        (state,) = self.recorder.delivery_states.values()
        return state

    def invalid_records(self) -> list[tuple[bytes | None, dict[str, bytes]]]:
        return [(record.value, dict(record.headers)) for record in self.kafka.topic(INVALID)]
