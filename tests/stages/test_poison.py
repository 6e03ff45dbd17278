"""One record that is too large, or at which our own code fails, is kept aside; all others arrive."""

import hashlib
from typing import Any

import pytest

from builders import EXAMPLE, delivery, event, webhook
from fakes import quiet
from stages.pipeline import CODEC, URL, Pipeline
from streams.core.delivery import SubscriptionsPosition
from streams.core.event import Event, render
from streams.core.outcome import judge
from streams.core.webhook import Webhook, wants
from streams.ports import Outgoing
from streams.stages import attempt as attempt_module
from streams.stages import fan_out as fan_out_module
from streams.stages.invalid_records import KEPT_BYTES, START_BYTES
from streams.topics import ATTEMPTS, DELIVERIES, INVALID, SESSION_EVENTS

OTHER = "https://other.example.com/hooks"


def other(**changes: Any) -> Webhook:
    """Another account's webhook."""
    return webhook(id="wh_other", account_id="globex", url=OTHER, **changes)


def sent_to(pipeline: Pipeline, url: str) -> list[str]:
    return [request.headers["webhook-id"] for request in pipeline.sender.requests if request.url == url]


async def test_a_huge_record_is_kept_as_its_start(pipeline: Pipeline) -> None:
    huge = b"{" + bytes(KEPT_BYTES)
    await pipeline.register(other())
    await pipeline.fan_out.handle([pipeline.publish_bytes(huge), pipeline.publish_event(event(account_id="globex"))])
    await quiet()
    ((value, headers),) = pipeline.to_invalid_record()
    assert value == huge[:START_BYTES]
    assert headers["value-bytes"] == str(len(huge)).encode()
    assert headers["value-sha256"] == hashlib.sha256(huge).hexdigest().encode()
    assert headers["origin-topic"] == SESSION_EVENTS.encode()
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_a_record_with_huge_headers_is_kept_as_its_start(pipeline: Pipeline) -> None:
    record = pipeline.kafka.append(Outgoing(SESSION_EVENTS, b"k", b"junk", [("x" * KEPT_BYTES, b"y")]))
    await pipeline.fan_out.handle([record])
    ((value, headers),) = pipeline.to_invalid_record()
    assert value == b"junk"
    assert "x" * KEPT_BYTES not in headers


async def test_where_even_the_start_is_refused_the_others_go_on(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[INVALID] = 10
    await pipeline.register(other())
    await pipeline.fan_out.handle([pipeline.publish_bytes(b"junk"), pipeline.publish_event(event(account_id="globex"))])
    await quiet()
    assert pipeline.to_invalid_record() == []
    assert pipeline.telemetry.counts["invalid_records_not_stored_total"] == 1
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_an_event_whose_delivery_kafka_refuses_is_parked_once(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[DELIVERIES] = 1000
    await pipeline.register(webhook(), webhook(id="wh_2"), other())
    large = event(id="evt_large", data={**EXAMPLE, "learnerId": "x" * 1000})
    await pipeline.happen(large, event(account_id="globex"))
    ((value, headers),) = pipeline.to_invalid_record()
    assert value == CODEC.encode(large)
    assert b"Kafka refuses what follows from it" in headers["error"]
    assert sent_to(pipeline, URL) == []
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_a_delivery_whose_attempt_kafka_refuses_is_parked(pipeline: Pipeline) -> None:
    pipeline.kafka.most_bytes[ATTEMPTS] = 100
    await pipeline.register(webhook())
    await pipeline.happen(event())
    ((value, headers),) = pipeline.to_invalid_record()
    assert value == CODEC.encode(pipeline.deliveries()[0])
    assert headers["origin-topic"] == DELIVERIES.encode()


async def test_an_event_that_breaks_fan_out_is_stored_as_invalid(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def failing(known: Webhook, happened: Event) -> bool:
        if happened.id == "evt_bad":
            tries.append(happened.id)
            raise ZeroDivisionError("a defect")
        return wants(known, happened)

    monkeypatch.setattr(fan_out_module, "wants", failing)
    await pipeline.register(webhook(), other())
    await pipeline.happen(event(id="evt_bad"), event(account_id="globex"))
    ((value, headers),) = pipeline.to_invalid_record()
    assert value == CODEC.encode(event(id="evt_bad"))
    assert b"ZeroDivisionError: a defect" in headers["error"]
    assert len(tries) == 3
    assert sent_to(pipeline, OTHER) == [event().id]


async def test_a_delivery_that_breaks_deliver_is_sent_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> Any:
        if pipeline.sender.requests[-1].url == URL:
            raise ZeroDivisionError("a defect")
        return judge(*arguments)

    monkeypatch.setattr(attempt_module, "judge", failing)
    await pipeline.register(webhook(), other())
    await pipeline.happen(event())
    await pipeline.happen(event(account_id="globex"))
    assert sent_to(pipeline, URL) == [event().id]
    assert sent_to(pipeline, OTHER) == [event().id]
    ((_, headers),) = pipeline.to_invalid_record()
    assert b"ZeroDivisionError: a defect" in headers["error"]


async def test_a_shortage_of_memory_parks_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> bool:
        raise MemoryError

    monkeypatch.setattr(fan_out_module, "wants", failing)
    await pipeline.register(webhook())
    with pytest.raises(MemoryError):
        await pipeline.happen(event())
    assert pipeline.to_invalid_record() == []


@pytest.mark.parametrize(
    "hostile",
    [
        {"subscriptions_position": SubscriptionsPosition("first", 2**62)},
        {"subscriptions_position": SubscriptionsPosition("nobody's", 2**62)},
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
async def test_a_strangers_delivery_stops_nobody(pipeline: Pipeline, hostile: dict[str, Any]) -> None:
    await pipeline.register(webhook(), other())
    await pipeline.put(DELIVERIES, delivery(**hostile))
    await pipeline.happen(event(account_id="globex"))
    assert sent_to(pipeline, OTHER) == [event().id]
    assert not any(task.done() for task in pipeline.running)


async def test_the_first_body_of_an_event_id_counts(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.happen(event())
    await pipeline.happen(event(data={**EXAMPLE, "scoreRaw": 13}))
    assert [request.body for request in pipeline.sender.requests] == [render(event())]
    assert pipeline.recorder.bodies == {("acme", event().id): render(event())}
    origins = [
        (headers["origin-topic"], b"conflicting id" in headers["error"]) for _, headers in pipeline.to_invalid_record()
    ]
    assert origins == [(DELIVERIES.encode(), True)] * 2


async def test_after_a_crash_record_still_knows_the_first_body(pipeline: Pipeline) -> None:
    """What `deliver` remembers is gone: both bodies may leave, but the second one is kept aside and named."""
    await pipeline.register(webhook())
    await pipeline.happen(event())
    await pipeline.crash()
    await pipeline.happen(event(data={**EXAMPLE, "scoreRaw": 13}))
    assert pipeline.recorder.bodies == {("acme", event().id): render(event())}
    assert any(b"conflicting id" in headers["error"] for _, headers in pipeline.to_invalid_record())
