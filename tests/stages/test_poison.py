"""A record that is too large, or makes our code fail, is stored as invalid; all others are delivered."""

import hashlib
from typing import Any

import pytest

from builders import EXAMPLE, delivery, event, webhook
from fakes import quiet
from stages.pipeline import CODEC, URL, Pipeline
from streams.core.deliveries import decision as decision_module
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.deliveries.outcome import judge
from streams.core.events import matching
from streams.core.events.event import Event, render
from streams.core.events.trace import SpanName
from streams.core.webhooks.webhook import MismatchReason, Webhook, mismatch_reason
from streams.ports.kafka import Outgoing
from streams.stages.invalid_records import MAX_STORED_BYTES, TRUNCATED_BYTES
from streams.topics import ATTEMPTS, DELIVERIES, INVALID, SESSION_EVENTS

OTHER = "https://other.example.com/hooks"


def other(**changes: Any) -> Webhook:
    """Another account's webhook."""
    return webhook(id="wh_other", account_id="globex", url=OTHER, **changes)


def sent_to(pipeline: Pipeline, url: str) -> list[str]:
    return [request.headers["webhook-id"] for request in pipeline.sender.requests if request.url == url]


async def test_only_the_start_of_a_huge_record_is_stored(pipeline: Pipeline) -> None:
    huge = b"{" + bytes(MAX_STORED_BYTES)
    await pipeline.register(other())
    await pipeline.fan_out.handle([pipeline.publish_bytes(huge), pipeline.publish_event(event(account_id="globex"))])
    await quiet()
    ((value, headers),) = pipeline.invalid_records()
    assert value == huge[:TRUNCATED_BYTES]
    assert headers["value-bytes"] == str(len(huge)).encode()
    assert headers["value-sha256"] == hashlib.sha256(huge).hexdigest().encode()
    assert headers["origin-topic"] == SESSION_EVENTS.encode()
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_huge_headers_of_an_invalid_record_are_dropped(pipeline: Pipeline) -> None:
    record = pipeline.kafka.append(Outgoing(SESSION_EVENTS, b"k", b"junk", [("x" * MAX_STORED_BYTES, b"y")]))
    await pipeline.fan_out.handle([record])
    ((value, headers),) = pipeline.invalid_records()
    assert value == b"junk"
    assert "x" * MAX_STORED_BYTES not in headers


async def test_an_invalid_record_that_kafka_refuses_stops_no_other(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[INVALID] = 10
    await pipeline.register(other())
    await pipeline.fan_out.handle([pipeline.publish_bytes(b"junk"), pipeline.publish_event(event(account_id="globex"))])
    await quiet()
    assert pipeline.invalid_records() == []
    assert pipeline.telemetry.counts["invalid_records_not_stored_total"] == 1
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_an_event_whose_delivery_is_refused_is_stored_once(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[DELIVERIES] = 1000
    await pipeline.register(webhook(), webhook(id="wh_2"), other())
    large = event(id="evt_large", data={**EXAMPLE, "learnerId": "x" * 1000})
    await pipeline.fan_out_events(large, event(account_id="globex"))
    ((value, headers),) = pipeline.invalid_records()
    assert value == CODEC.encode(large)
    assert b"Kafka refuses what follows from it" in headers["error"]
    assert sent_to(pipeline, URL) == []
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_a_delivery_whose_attempt_is_refused_is_stored(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[ATTEMPTS] = 100
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    ((value, headers),) = pipeline.invalid_records()
    assert value == CODEC.encode(pipeline.deliveries()[0])
    assert headers["origin-topic"] == DELIVERIES.encode()


async def test_an_event_that_breaks_fan_out_is_stored_as_invalid(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def failing(known: Webhook, event: Event) -> MismatchReason | None:
        if event.id == "evt_bad":
            tries.append(event.id)
            raise ZeroDivisionError("a defect")
        return mismatch_reason(known, event)

    monkeypatch.setattr(matching, "mismatch_in_scope", failing)
    await pipeline.register(webhook(), other())
    await pipeline.fan_out_events(event(id="evt_bad"), event(account_id="globex"))
    ((value, headers),) = pipeline.invalid_records()
    assert value == CODEC.encode(event(id="evt_bad"))
    assert b"ZeroDivisionError: a defect" in headers["error"]
    assert len(tries) == 3
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_a_delivery_that_breaks_deliver_is_sent_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> Any:
        if pipeline.sender.requests[-1].url == URL:
            raise ZeroDivisionError("a defect")
        return judge(*arguments)

    monkeypatch.setattr(decision_module, "judge", failing)
    await pipeline.register(webhook(), other())
    await pipeline.fan_out_events(event())
    await pipeline.fan_out_events(event(account_id="globex"))
    assert sent_to(pipeline, URL) == [event().id]
    assert sent_to(pipeline, OTHER) == [event().id]
    ((_, headers),) = pipeline.invalid_records()
    assert b"ZeroDivisionError: a defect" in headers["error"]


async def test_a_shortage_of_memory_makes_nothing_invalid(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> bool:
        raise MemoryError

    monkeypatch.setattr(matching, "mismatch_in_scope", failing)
    await pipeline.register(webhook())
    with pytest.raises(MemoryError):
        await pipeline.fan_out_events(event())
    assert pipeline.invalid_records() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"subscriptions_position": SubscriptionsPosition("first", 2**62)},
        {"subscriptions_position": SubscriptionsPosition("unknown", 2**62)},
        {"generation": 2**31 - 1},
        {"step": 2**31 - 1},
        {"attempt": 2**62},
        {"webhook_id": "wh_\r\nX-Evil: 1"},
        {"event_id": "evt\0"},
        {"body": bytes(200_000)},
        {"trace_parent": "\r\nX-Evil: 1"},
    ],
    ids=str,
)
async def test_a_forged_delivery_stops_no_other(pipeline: Pipeline, changes: dict[str, Any]) -> None:
    await pipeline.register(webhook(), other())
    await pipeline.put(DELIVERIES, delivery(**changes))
    await pipeline.fan_out_events(event(account_id="globex"))
    assert sent_to(pipeline, OTHER) == [event().id]
    assert not any(task.done() for task in pipeline.running)


async def test_a_url_that_was_never_right_stops_no_other(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(url="https://[wrong/hooks"), other())
    await pipeline.fan_out_events(event())
    await pipeline.fan_out_events(event(account_id="globex"))
    assert sent_to(pipeline, OTHER) == [event().id]
    hosts = {span.attributes["server.address"] for span in pipeline.telemetry.spans if span.name is SpanName.ATTEMPT}
    assert hosts == {"", "other.example.com"}
    assert not any(task.done() for task in pipeline.running)


async def test_only_the_first_body_of_an_event_id_is_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.fan_out_events(event(data={**EXAMPLE, "scoreRaw": 13}))
    assert [request.body for request in pipeline.sender.requests] == [render(event())]
    assert pipeline.recorder.bodies == {("acme", event().id): render(event())}
    origins = [
        (headers["origin-topic"], b"conflicting id" in headers["error"]) for _, headers in pipeline.invalid_records()
    ]
    assert origins == [(DELIVERIES.encode(), True)] * 2


async def test_after_a_crash_record_detects_a_second_body(pipeline: Pipeline) -> None:
    """`deliver` has lost its memory: both bodies may be sent, but the second is stored as invalid."""
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.crash()
    await pipeline.fan_out_events(event(data={**EXAMPLE, "scoreRaw": 13}))
    assert pipeline.recorder.bodies == {("acme", event().id): render(event())}
    assert any(b"conflicting id" in headers["error"] for _, headers in pipeline.invalid_records())
