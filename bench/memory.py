"""Memory for many webhooks and many waiting deliveries."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from confluent_kafka import Producer

from bench.stack import Stack, running
from e2e.system import until
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery, SubscriptionsPosition
from streams.core.deliveries.schedule import parse_schedule
from streams.core.events.event import EventSubjects
from streams.core.records.record_checks import SHA256_BYTES
from streams.topics import SUBSCRIPTIONS, retry_topic

WATCHED_SECONDS = 30
# A million webhooks take a while.
READY_SECONDS = 300


def memory(
    webhooks: Annotated[int, typer.Option(help="Webhooks on the topic.")] = 100_000,
    waiting: Annotated[int, typer.Option(help="Deliveries that wait in the last tier.")] = 1_000_000,
) -> dict[str, object]:
    """Memory and start time of `fan-out` and `deliver` with many webhooks; memory of `deliver` with many retries."""
    codec = AvroCodec()
    with running(Stack()) as stack:
        stack.start(["publish"])
        (made,) = stack.register_whole(["/ok/0"])
        producer = Producer(
            {"bootstrap.servers": stack.bootstrap, "partitioner": "murmur2_random", "compression.type": "lz4"}
        )

        def produce(topic: str, key: str, value: bytes) -> None:
            while True:
                try:
                    producer.produce(topic, value, key)
                    return
                except BufferError:
                    producer.poll(0.1)

        for number in range(webhooks):
            webhook = replace(made, id=f"wh_{number:026d}", account_id=f"acc_{number // 10:026d}")
            produce(SUBSCRIPTIONS, webhook.id, codec.encode(webhook))
        assert producer.flush(120) == 0
        ready, memory_mb = {}, {}
        for stage in ("fan-out", "deliver"):
            began = time.monotonic()
            stack.system.launch(stage)
            until(partial(stack.system.is_ready, stage), READY_SECONDS, f"{stage} is ready")
            ready[stage] = round(time.monotonic() - began, 1)
            memory_mb[stage] = round(stack.memory_mb(stage))
        topic = retry_topic(parse_schedule(stack.system.env["SCORM_WEBHOOKS_RETRY_SCHEDULE"]).tiers[-1])
        waits = Delivery(
            made.account_id,
            "",
            "session.launched",
            made.id,
            datetime.now(UTC),
            SubscriptionsPosition("", 0),
            b"x" * 500,
            EventSubjects(),
            bytes(SHA256_BYTES),
        )
        for number in range(waiting):
            produce(topic, f"wh_{number % 1000}", codec.encode(waits._replace(event_id=f"evt_{number}", step=2)))
        assert producer.flush(300) == 0
        most = 0.0
        deadline = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < deadline:
            most = max(most, stack.memory_mb("deliver"))
            time.sleep(0.5)
        return stack.say(
            experiment="memory",
            webhooks=webhooks,
            waiting=waiting,
            ready_seconds=ready,
            memory_mb=memory_mb,
            deliver_mb_with_waiting=round(most),
        )
