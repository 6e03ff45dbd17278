"""Bursts of one account or of many, and what they cost the events of another account."""

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import aiohttp
import typer
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.day import OPERATOR_KEY
from bench.event_senders import KafkaSender
from bench.producer import launch
from bench.stack import WARM_DELIVERIES, WHOLE, Stack, percentile, running, stack_with_api
from e2e.system import until
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery
from streams.core.events.event import Event
from streams.topics import DELIVERIES, SESSION_EVENTS

# Events of a REST request, and how many requests are under way at once.
BATCH, CONNECTIONS = 500, 32
OTHERS_RATE = 20.0


class By(StrEnum):
    """The way by which the burst is published."""

    KAFKA = "kafka"
    REST = "rest"


def bursts(
    events: Annotated[int, typer.Option(help="Events of the burst.")] = 10_000,
    by: Annotated[By, typer.Option(help="The way of publishing it.")] = By.KAFKA,
    webhooks: Annotated[int, typer.Option(help="Webhooks of each account, each of which wants every event.")] = 1,
    unmatched: Annotated[int, typer.Option(help="More webhooks of each account, whose filters never match.")] = 0,
    accounts: Annotated[int, typer.Option(help="Accounts that share the burst.")] = 1,
    per_second: Annotated[float, typer.Option(help="Events a second of the burst; 0: as fast as can be.")] = 0,
    limit: Annotated[int, typer.Option(help="Events a second of an account that `api` takes.")] = 1_000_000,
    warm: Annotated[int, typer.Option(help="Deliveries before the burst.")] = WARM_DELIVERIES,
    seconds: Annotated[float, typer.Option(help="Seconds of the other account's events, before and during.")] = 20,
) -> dict[str, object]:
    """Latency of an account's events, 20 a second, before and during a burst of others, and where it arises."""
    if by is By.REST and per_second:
        raise typer.BadParameter("--per-second needs --by kafka")
    env = {"SCORM_WEBHOOKS_OPERATOR_KEYS": f"bench={OPERATOR_KEY}", "SCORM_WEBHOOKS_EVENT_RATE_LIMIT": str(limit)}
    with running(stack_with_api(**env)) as stack:
        stack.start((*WHOLE, "api"))
        paths = [f"/ok/burst/{number}" for number in range(webhooks)]
        bursting = [stack.register_account(paths, unmatched=unmatched) for _ in range(accounts)]
        [(other, _)] = stack.register(["/ok/other"])
        stack.warm_up([other], warm)
        before = _milliseconds(*_others(stack, other, "before", seconds))
        burst = _Burst(stack, by, bursting, events, per_second)
        began = time.monotonic()
        burst.start()
        sent, arrived = _others(stack, other, "during", seconds)
        burst.join()
        wanted = burst.accepted * webhooks
        until(lambda: _has_arrived(stack, wanted), 1800, f"{wanted} requests of the burst", 0.5)
        ended = max(at for path, _, at, _ in stack.receipts if path.startswith("/ok/burst"))
        wall = time.time() - time.monotonic()
        read_at = _appended(stack.bootstrap, SESSION_EVENTS, sent)
        fanned_out_at = _appended(stack.bootstrap, DELIVERIES, sent)
        during = _milliseconds(sent, arrived)
        return stack.say(
            experiment="bursts",
            events=events,
            actor=by.value,
            webhooks=webhooks,
            unmatched=unmatched,
            accounts=accounts,
            per_second=per_second,
            limit=limit,
            accepted=burst.accepted,
            burst_published_seconds=round(burst.took, 1),
            burst_delivered_per_second=round(wanted / (ended - began)),
            others=len(during),
            p50_ms_before=_share(before, 0.5),
            p99_ms_before=_share(before, 0.99),
            p50_ms=_share(during, 0.5),
            p99_ms=_share(during, 0.99),
            max_ms=round(max(during), 1),
            p99_ms_fan_out=_share(_milliseconds(read_at, fanned_out_at), 0.99),
            p99_ms_deliver=_share(_milliseconds(fanned_out_at, {i: at + wall for i, at in arrived.items()}), 0.99),
        )


class _Burst(threading.Thread):
    """Publishes the burst, each account's events in turn; `accepted` and `took` are known at its end."""

    def __init__(self, stack: Stack, by: By, accounts: Sequence[str], events: int, per_second: float) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._by = by
        self._per_second = per_second
        self._events = [launch(f"burst_{number}", accounts[number % len(accounts)]) for number in range(events)]
        self.accepted = 0
        self.took = 0.0

    def run(self) -> None:
        began = time.monotonic()
        self.accepted = self._by_kafka() if self._by == By.KAFKA else asyncio.run(self._by_rest())
        self.took = time.monotonic() - began

    def _by_kafka(self) -> int:
        sender = KafkaSender(self._stack.bootstrap)
        began = time.monotonic()
        for number, event in enumerate(self._events):
            if self._per_second and (early := began + number / self._per_second - time.monotonic()) > 0:
                time.sleep(early)
            sender.send(event)
        failed = sender.finish()
        sender.close()
        return len(self._events) - failed

    async def _by_rest(self) -> int:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        headers = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        async with aiohttp.ClientSession(self._stack.api_url, connector=connector, headers=headers) as session:

            async def post(events: Sequence[Mapping[str, object]]) -> int:
                async with session.post("/v1/events", json={"events": events}) as response:
                    await response.read()
                    return len(events) if response.status == 202 else 0

            starts = range(0, len(self._events), BATCH)
            return sum(await asyncio.gather(*(post(self._events[start : start + BATCH]) for start in starts)))


def _others(stack: Stack, account: str, name: str, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Publish to an account at a steady rate; return when each event was sent, and when it arrived."""
    sent: dict[str, float] = {}

    def publish(number: int) -> None:
        sent[f"{name}_{number}"] = time.monotonic()
        stack.publish(f"{name}_{number}", account)

    stack.at_rate(OTHERS_RATE, seconds, publish)
    arrived: dict[str, float] = {}

    def have_arrived() -> bool:
        for _, event_id, at, _ in stack.take():
            if event_id in sent:
                arrived.setdefault(event_id, at)
        return len(arrived) == len(sent)

    until(have_arrived, 600, "every event of the other account", 0.1)
    return sent, arrived


def _has_arrived(stack: Stack, requests: int) -> bool:
    stack.take()
    return sum(path.startswith("/ok/burst") for path, _, _, _ in stack.receipts) >= requests


def _appended(bootstrap: str, topic: str, event_ids: Iterable[str]) -> dict[str, float]:
    """When the records of these events were appended to a topic."""
    wanted, found, codec = set(event_ids), dict[str, float](), AvroCodec()
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.partition.eof": True})
    numbers = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
    open_partitions = set(numbers)
    while open_partitions and len(found) < len(wanted):
        for record in consumer.consume(1000, 1.0):
            if record.error():
                open_partitions.discard(record.partition())
                continue
            value = codec.decode(record.value() or b"")
            event_id = value.id if isinstance(value, Event) else value.event_id if isinstance(value, Delivery) else ""
            if event_id in wanted:
                found.setdefault(event_id, record.timestamp()[1] / 1000)
    consumer.close()
    return found


def _milliseconds(begins: Mapping[str, float], ends: Mapping[str, float]) -> list[float]:
    return [1000 * (ends[event_id] - begins[event_id]) for event_id in begins.keys() & ends.keys()]


def _share(values: Sequence[float], share: float) -> float:
    return round(percentile(values, share), 1)
