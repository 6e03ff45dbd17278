"""The cost of `EventProducer`, from the call to the broker's acknowledgement."""

import statistics
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from bench.processes import cpu
from bench.servers import ProductionKafka, kafka_settings
from bench.stack import percentile, say
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.core.deliveries.schedule import parse_schedule
from streams.producer import Ack, EventProducer
from streams.topics import declare

# Warm-up of the broker's compiler, by single events and by many: events a second, seconds.
_WARM = (1000, 20)
_FLOOD_EVENTS = 40_000


def launch(event_id: str, account_id: str) -> dict[str, Any]:
    """The event of a launched session, as a platform passes it."""
    return {
        "id": event_id,
        "type": "session.launched",
        "accountId": account_id,
        "createdAt": datetime.now(UTC).isoformat(),
        "data": {"sessionId": event_id, "packageId": "pkg_1", "learnerId": "learner-42"},
    }


def producer(
    rate: Annotated[float, typer.Option(help="Events a second during the timing.")] = 30,
    seconds: Annotated[float, typer.Option(help="Seconds of timing.")] = 10,
    linger_ms: Annotated[float, typer.Option(help="Milliseconds that an event waits for a batch.")] = 0,
) -> dict[str, object]:
    """Time from call to acknowledgement at this rate; then throughput without a limit, and its CPU."""
    kafka = ProductionKafka()
    try:
        admin = TopicsAdmin({"bootstrap.servers": kafka.bootstrap}, "")
        admin.apply(admin.plan(declare(parse_schedule("1s"), 12, 12)))
        with EventProducer(kafka.bootstrap, properties={"linger.ms": linger_ms}) as producing:
            _at_rate(producing, *_WARM)
            _flood(producing, _FLOOD_EVENTS)
            waits = _at_rate(producing, rate, seconds)
            before, own, began = cpu(kafka.pid), time.process_time(), time.monotonic()
            _flood(producing, _FLOOD_EVENTS)
            took, own, broker = time.monotonic() - began, time.process_time() - own, cpu(kafka.pid) - before
    finally:
        kafka.remove()
    return say(
        {"kafka": kafka_settings()},
        experiment="producer",
        linger_ms=linger_ms,
        rate=rate,
        p50_ms=round(statistics.median(waits), 1),
        p99_ms=round(percentile(waits, 0.99), 1),
        flood_per_second=round(_FLOOD_EVENTS / took),
        flood_cpu_us={"producer": round(1e6 * own / _FLOOD_EVENTS), "kafka": round(1e6 * broker / _FLOOD_EVENTS)},
    )


def _at_rate(producing: EventProducer, rate: float, seconds: float) -> list[float]:
    """The milliseconds of each event."""
    waits: list[float] = []

    def taken(called: float, future: Future[Ack]) -> None:
        future.result()
        waits.append(1000 * (time.monotonic() - called))

    began = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0, began + number / rate - time.monotonic()))
        called = time.monotonic()
        producing.publish(launch(f"evt_{number}", "acc_1")).add_done_callback(partial(taken, called))
    assert producing.flush()
    assert len(waits) == int(rate * seconds)
    return waits


def _flood(producing: EventProducer, count: int) -> None:
    futures: list[Future[Ack]] = [producing.publish(launch(f"evt_{number}", "acc_1")) for number in range(count)]
    for future in futures:
        future.result()
