"""`deliver` counts and logs what is acknowledged, once."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from builders import EXAMPLE, SECRET, delivery, paused, webhook
from fakes import (
    FakeClock,
    FakeEncryption,
    FakeErasedLearners,
    FakeKafka,
    FakeRecordConsumer,
    FakeRecorder,
    FakeSender,
    FakeTelemetry,
    cancel_others,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery, HoldReason, Target, Trigger
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import Request
from streams.core.deliveries.schedule import Tier, parse_schedule
from streams.core.deliveries.signing import sign_standard
from streams.core.queues.endpoint_queue import EndpointClass
from streams.core.queues.slots import Slots
from streams.core.records.invalid_on_failure import FAILURES_BEFORE_INVALID
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.health import FALLBACK_FAILURES_TO_REST
from streams.core.webhooks.webhook import Webhook
from streams.outage import Outages
from streams.ports.kafka import Outgoing, RecordValue
from streams.stages.attempt import DeliverPorts, DeliveryPolicy
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.stages.consuming.partition_state import PartitionState
from streams.stages.deliver import Deliver
from streams.stages.limiting.slot_limiter import AcquiredSlot, SlotLimiter
from streams.topics import ATTEMPTS, DELIVERIES, HELD, INVALID, TEST_DELIVERIES, retry_topic

CODEC = AvroCodec()


class OneWebhook:
    """A `Subscriptions` of one webhook, as far read as anybody needs."""

    def __init__(self, known: Webhook | None) -> None:
        self.webhook = known

    def find(self, webhook_id: str) -> Webhook | None:
        return self.webhook

    async def catch_up(self, ago: float = 0.0) -> None: ...

    async def wait_for(self, position: object) -> None: ...


class FailingProducer(FakeKafka):
    """A producer that fails as often as `failures` says."""

    failures = 0

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the producer failed")
        return await super().produce(records)


class FailingCodec:
    """A codec whose encoder has a defect at values of one type, as often as `failures` says."""

    failures = 0
    fails_at: type = object

    def decode(self, value: bytes) -> Any:
        return CODEC.decode(value)

    def encode(self, value: RecordValue) -> bytes:
        if self.failures and isinstance(value, self.fails_at):
            self.failures -= 1
            raise ZeroDivisionError("a defect")
        return CODEC.encode(value)


class DeliverFixture:
    """The stage `deliver` with one webhook, or none, and one record."""

    def __init__(self, known: Webhook | None, owed: Delivery | None = None) -> None:
        self.clock = FakeClock()
        self.kafka = FailingProducer(self.clock)
        self.codec = FailingCodec()
        self.telemetry = FakeTelemetry()
        self.sender = FakeSender(self.clock)
        self.erased = FakeErasedLearners()
        self.known = OneWebhook(known)
        self.slots: Slots[AcquiredSlot] = Slots(4)
        ports = DeliverPorts(
            self.codec,
            self.known,  # type: ignore[arg-type]
            FakeRecorder(),
            self.erased,
            FakeEncryption(),
            self.sender,
            self.kafka,
            self.clock,
            self.telemetry,
        )
        slots = SlotLimiter(self.slots, lambda: self.clock.now().timestamp())
        self._deliver = Deliver(ports, DeliveryPolicy(parse_schedule("30s")), slots, Outages(self.telemetry))
        self.record = self.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(owed or delivery())))

    async def handle(self, owed: Delivery | None = None) -> None:
        partition = PartitionState(FakeRecordConsumer(self.kafka, "deliver", []), self.record.partition, None)
        await self._deliver.deliver(self.record, owed or self._deliver.read(self.record), partition)

    async def consume(self) -> None:
        """Run until the record is committed. Raises what ends the process."""
        consumer, outages = FakeRecordConsumer(self.kafka, "deliver", [DELIVERIES]), Outages(self.telemetry)
        stage = PartitionConsumer(consumer, self._deliver, self.kafka, self.clock, self.telemetry, outages)
        running = asyncio.create_task(stage.run())
        await until(lambda: running.done() or bool(consumer.committed))
        if running.done():
            await running
        await cancel_others()


async def test_an_attempt_counts_when_its_record_is_acknowledged() -> None:
    fixture = DeliverFixture(webhook())
    fixture.kafka.failures = 2
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await fixture.handle()
    assert (fixture.telemetry.counts, fixture.telemetry.observed, fixture.telemetry.logged) == ({}, {}, [])
    await fixture.handle()
    assert fixture.telemetry.counts == {"attempts_total": 1}
    observed = {metric: len(values) for metric, values in fixture.telemetry.observed.items()}
    assert observed == {"attempt_seconds": 1, "event_to_delivered_seconds": 1, "first_attempt_delay_seconds": 1}
    assert fixture.telemetry.logged_count("delivery_attempt_succeeded") == 1


async def test_a_long_wait_is_several_waits_in_one_tier() -> None:
    fixture = DeliverFixture(webhook())
    topic = retry_topic(Tier("30s"))
    waiting = delivery().to_retry(waits_left=2)
    fixture.record = fixture.kafka.append(Outgoing(topic, b"wh_crm", CODEC.encode(waiting)))
    steps = [waiting.step]
    for waits_left in (1, 0):
        await fixture.handle()
        assert fixture.sender.requests == []
        fixture.record = fixture.kafka.topic(topic)[-1]
        read = CODEC.decode(fixture.record.value or b"")
        assert isinstance(read, Delivery)
        assert (read.waits_left, read.attempt) == (waits_left, waiting.attempt)
        steps.append(read.step)
    # Each record of a delivery has a step of its own: a repeated one is recognized by it.
    assert steps == [2, 3, 4]
    await fixture.handle()
    assert len(fixture.sender.requests) == 1
    assert len(fixture.kafka.topic(topic)) == 3


async def test_a_further_wait_that_kafka_refuses_is_stored_as_invalid() -> None:
    fixture, topic = DeliverFixture(webhook()), retry_topic(Tier("30s"))
    waiting = CODEC.encode(delivery().to_retry(waits_left=2))
    fixture.record = fixture.kafka.append(Outgoing(topic, b"wh_crm", waiting))
    fixture.kafka.most_bytes[topic] = 10
    await fixture.handle()
    [invalid] = fixture.kafka.topic(INVALID)
    assert invalid.value == waiting
    assert dict(invalid.headers)["error"] == b"Kafka refuses what follows from it: too large"
    assert fixture.telemetry.series[f'invalid_records_total{{topic="{topic}"}}'] == 1


async def test_a_request_has_the_timeout_of_its_webhook() -> None:
    for options, seconds in (({}, None), ({"timeoutSeconds": 3}, 3)):
        fixture = DeliverFixture(webhook(options=parse_options(options)))
        fixture.sender.responses(webhook().url, Failure(OutcomeKind.TIMEOUT))
        await fixture.handle()
        assert fixture.sender.requests[0].timeout_seconds == seconds
        attempt = CODEC.decode(fixture.kafka.topic(ATTEMPTS)[0].value or b"")
        assert isinstance(attempt, Attempt)
        assert f"within {seconds or 10} seconds" in attempt.message


async def test_a_request_has_the_fields_that_its_webhook_chooses() -> None:
    fixture = DeliverFixture(webhook(options=parse_options({"fields": ["sessionId"]}), version=7))
    await fixture.handle()
    [request] = fixture.sender.requests
    assert json.loads(request.body)["data"] == {"sessionId": "sess_abc123"}
    assert request.headers["webhook-signature"] == sign_standard(
        SECRET, delivery().event_id, int(request.headers["webhook-timestamp"]), request.body
    )
    attempt = CODEC.decode(fixture.kafka.topic(ATTEMPTS)[0].value or b"")
    assert isinstance(attempt, Attempt)
    assert (attempt.webhook_version, attempt.fields) == (7, ("sessionId",))


async def test_a_body_that_has_no_fields_is_never_sent_whole() -> None:
    fixture = DeliverFixture(webhook(options=parse_options({"fields": ["sessionId"]})), delivery(body=b"private"))
    await fixture.handle()
    attempt = CODEC.decode(fixture.kafka.topic(ATTEMPTS)[0].value or b"")
    assert isinstance(attempt, Attempt)
    assert (fixture.sender.requests, attempt.outcome) == ([], OutcomeKind.UNSENDABLE)
    assert "private" not in attempt.message


async def test_a_delivery_beyond_the_rate_is_held_as_rate() -> None:
    fixture = DeliverFixture(webhook(options=parse_options({"ratePerSecond": 0.1})))
    for number in range(3):
        owed = delivery(event_id=f"evt_{number}")
        fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(owed)))
        await fixture.handle()
    assert len(fixture.sender.requests) == 1
    held = [CODEC.decode(record.value or b"") for record in fixture.kafka.topic(HELD)]
    assert [one.hold_reason for one in held if isinstance(one, Delivery)] == [HoldReason.RATE] * 2


async def test_a_test_does_not_wait_for_the_rate() -> None:
    fixture = DeliverFixture(webhook(options=parse_options({"ratePerSecond": 0.1})))
    for number in range(3):
        owed = delivery(event_id=f"evt_{number}", trigger=Trigger.TEST)
        fixture.record = fixture.kafka.append(Outgoing(TEST_DELIVERIES, b"wh_crm", CODEC.encode(owed)))
        await fixture.handle()
    assert len(fixture.sender.requests) == 3


async def test_the_fallback_endpoint_has_the_rate_for_itself() -> None:
    known = webhook(fallback_url="https://backup.example.com/", options=parse_options({"ratePerSecond": 0.1}))
    fixture = DeliverFixture(known)
    await fixture.handle()
    at_fallback = delivery(event_id="evt_2", target=Target.FALLBACK, primary_attempts=1)
    fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(at_fallback)))
    await fixture.handle()
    assert [request.url for request in fixture.sender.requests] == [known.url, known.fallback_url]


async def test_a_failure_of_our_proxy_rests_no_fallback_endpoint() -> None:
    known = webhook(fallback_url="https://backup.example.com/")
    fixture = DeliverFixture(known)
    fixture.sender.responses("https://backup.example.com/", Failure(OutcomeKind.PROXY_ERROR))
    for number in range(FALLBACK_FAILURES_TO_REST + 1):
        owed = delivery(event_id=f"evt_{number}", target=Target.FALLBACK, primary_attempts=1)
        fixture.record = fixture.kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(owed)))
        await fixture.handle()
    assert len(fixture.sender.requests) == FALLBACK_FAILURES_TO_REST + 1


async def test_a_held_delivery_counts_once_though_its_encoder_failed() -> None:
    fixture = DeliverFixture(paused())
    fixture.codec.failures = 2
    await fixture.handle()
    assert len(fixture.kafka.topic(HELD)) == 1
    assert fixture.telemetry.counts == {"deliveries_held_total": 1}
    assert fixture.telemetry.logged_count("delivery_held") == 1


async def test_a_dead_letter_counts_once_though_its_encoder_failed() -> None:
    fixture = DeliverFixture(webhook())
    fixture.sender.responses(webhook().url, Response(410, {}))
    fixture.codec.failures, fixture.codec.fails_at = 2, DeadLetter
    await fixture.handle()
    assert fixture.telemetry.counts == {"attempts_total": 1, "dead_letters_total": 1}
    assert fixture.telemetry.series['dead_letters_total{reason="gone"}'] == 1
    [line] = fixture.telemetry.fields_of("delivery_given_up")
    assert (line["delivery_id"], line["reason"]) == (delivery().id, "gone")


async def test_an_invalid_record_counts_when_it_is_stored() -> None:
    fixture = DeliverFixture(webhook(account_id="globex"))
    fixture.kafka.failures = 1
    with pytest.raises(RuntimeError):
        await fixture.consume()
    assert fixture.telemetry.counts["invalid_records_total"] == 0
    await fixture.consume()
    assert fixture.telemetry.counts["invalid_records_total"] == 1
    (invalid,) = fixture.kafka.topic(INVALID)
    assert invalid.value == CODEC.encode(delivery())


@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), KeyError("a defect")], ids=repr)
async def test_a_defect_of_the_sender_ends_the_process(error: Exception) -> None:
    """It says nothing about the record: as an invalid record the event would be lost to its customer."""
    fixture = DeliverFixture(webhook())

    async def broken(_: Request) -> Response:
        raise error

    fixture.sender.put(webhook().url, broken)
    with pytest.raises(type(error)):
        await fixture.consume()
    assert fixture.kafka.topic(INVALID) == []


async def test_a_defect_at_each_try_makes_the_record_invalid() -> None:
    fixture = DeliverFixture(paused())
    fixture.codec.failures = FAILURES_BEFORE_INVALID
    await fixture.consume()
    (invalid,) = fixture.kafka.topic(INVALID)
    assert b"ZeroDivisionError: a defect" in dict(invalid.headers)["error"]
    assert fixture.telemetry.counts["deliveries_held_total"] == 0


async def test_a_delivery_waits_until_every_erasure_is_known() -> None:
    fixture = DeliverFixture(webhook())
    fixture.erased.current.clear()
    handling = asyncio.create_task(fixture.handle())
    await quiet()
    assert fixture.sender.requests == []
    fixture.erased.current.set()
    await handling
    assert len(fixture.sender.requests) == 1


async def test_a_slot_does_not_wait_until_every_erasure_is_known() -> None:
    fixture = DeliverFixture(webhook(max_concurrency=1))
    release = fixture.sender.hangs(webhook().url)
    first = asyncio.create_task(fixture.handle())
    await until(lambda: len(fixture.sender.requests) == 1)
    others = [asyncio.create_task(fixture.handle(delivery(event_id=f"evt_{number}"))) for number in (2, 3)]
    await quiet()
    fixture.erased.current.clear()
    release.set()
    await first
    await quiet()
    assert fixture.slots.in_use(EndpointClass.HEALTHY) == 0
    # What changed in the meantime counts.
    fixture.known.webhook = paused()
    fixture.erased.current.set()
    await asyncio.gather(*others)
    assert len(fixture.sender.requests) == 1
    assert fixture.telemetry.counts["deliveries_held_total"] == 2


async def test_an_erasure_during_the_wait_for_a_slot_counts() -> None:
    fixture = DeliverFixture(webhook(max_concurrency=1))
    release = fixture.sender.hangs(webhook().url)
    first = asyncio.create_task(fixture.handle())
    await until(lambda: len(fixture.sender.requests) == 1)
    second = asyncio.create_task(fixture.handle(delivery(event_id="evt_2")))
    await quiet()
    fixture.erased.erased_at[str(EXAMPLE["learnerId"])] = fixture.clock.now()
    release.set()
    await first
    await second
    assert len(fixture.sender.requests) == 1
    assert fixture.telemetry.counts["deliveries_erased_total"] == 1
