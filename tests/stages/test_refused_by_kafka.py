"""What Kafka refuses is not counted as made, and what fails leaves nothing behind."""

from builders import event, paused, webhook
from fakes import FakeTelemetry
from stages.pipeline import URL, Pipeline
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.outcome import Response
from streams.outage import Outages
from streams.ports.kafka import Outgoing, RecordValue
from streams.stages.fan_out import FanOut
from streams.topics import DEAD_LETTERS, DELIVERIES, HELD, SESSION_EVENTS


async def test_refused_deliveries_are_not_counted_as_created(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.kafka.most_bytes[DELIVERIES] = 10
    await pipeline.fan_out_events(event())
    assert pipeline.telemetry.counts["deliveries_created_total"] == 0
    assert pipeline.telemetry.counts["invalid_records_total"] == 1
    pipeline.kafka.most_bytes.clear()
    await pipeline.fan_out_events(event(id="evt_2"))
    assert pipeline.telemetry.counts["deliveries_created_total"] == 1
    assert pipeline.telemetry.series[f'events_total{{type="{event().type}"}}'] == 2
    assert [line["event_id"] for line in pipeline.telemetry.fields_of("delivery_created")] == ["evt_2"]


async def test_a_refused_dead_letter_is_not_counted(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.kafka.most_bytes[DEAD_LETTERS] = 10
    pipeline.sender.responses(URL, Response(410, {}))
    await pipeline.fan_out_events(event())
    assert len(pipeline.sender.requests) == 1
    assert pipeline.telemetry.counts["dead_letters_total"] == 0
    assert pipeline.telemetry.counts["attempts_total"] == 1


async def test_a_refused_hold_is_not_counted(pipeline: Pipeline) -> None:
    await pipeline.register(paused())
    pipeline.kafka.most_bytes[HELD] = 10
    await pipeline.fan_out_events(event())
    assert pipeline.telemetry.counts["deliveries_held_total"] == 0


class FailingCodec(AvroCodec):
    """Fails at the deliveries of one event."""

    calls = 0

    def encode(self, value: RecordValue) -> bytes:
        if isinstance(value, Delivery) and value.event_id == "evt_odd":
            self.calls += 1
            raise ValueError("odd")
        return super().encode(value)


async def test_an_event_that_fails_takes_no_share_and_ends_its_span(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    codec, telemetry, now = FailingCodec(), FakeTelemetry(), 1000.0
    fan_out = FanOut(codec, pipeline.table, pipeline.kafka, telemetry, Outages(telemetry), now=lambda: now)
    record = pipeline.kafka.append(Outgoing(SESSION_EVENTS, b"k", codec.encode(event(id="evt_odd"))))
    await fan_out.handle([record])
    bucket = fan_out._shares.bucket("acme", now)
    assert (codec.calls, bucket.tokens) == (3, bucket.limit)
    assert len(telemetry.spans) == 1
    assert telemetry.counts["invalid_records_total"] == 1
