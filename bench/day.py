"""An ordinary day: steady rates, far below the capacity."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Annotated

import typer

from bench.event_senders import CONNECTIONS, EventSender, KafkaSender, RestSender
from bench.producer import launch
from bench.stack import WARM_DELIVERIES, WHOLE, Stack, percentile, running, stack_with_api
from e2e.system import until

RATES = [30.0, 150.0, 300.0, 1000.0]
# Part of the load, not of the system.
_LOAD = ("generator", "sink")
OPERATOR_KEY = "only-for-the-experiments-of-bench"


class Via(StrEnum):
    """The way by which events are published."""

    KAFKA = "kafka"
    REST = "rest"


VIAS = [Via.KAFKA, Via.REST]


def day(
    rate: Annotated[list[float], typer.Option(help="Events a second; may be repeated.")] = RATES,
    via: Annotated[list[Via], typer.Option(help="The way of publishing; may be repeated.")] = VIAS,
    seconds: Annotated[float, typer.Option(help="Seconds of measurement at each rate.")] = 60,
    settle: Annotated[float, typer.Option(help="Seconds at each rate before the measurement.")] = 5,
    webhooks: Annotated[int, typer.Option(help="Webhooks, each of its own account.")] = 100,
    warm: Annotated[int, typer.Option(help="Deliveries before the first rate.")] = WARM_DELIVERIES,
    partitions: Annotated[int, typer.Option(help="Partitions of a topic; 0: 12 of events, 24 of deliveries.")] = 0,
) -> Iterator[dict[str, object]]:
    """CPU of each part for an event, and the time from publishing to arrival, by rate and by Kafka or REST."""
    settings = {"SCORM_WEBHOOKS_OPERATOR_KEYS": f"bench={OPERATOR_KEY}", **_partitions(partitions)}
    with running(stack_with_api(**settings)) as stack, ExitStack() as opened:
        stack.start((*WHOLE, "api"))
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(webhooks)])]
        stack.warm_up(accounts, warm)
        senders: dict[Via, EventSender] = {
            Via.KAFKA: opened.enter_context(closing(KafkaSender(stack.bootstrap))),
            Via.REST: opened.enter_context(closing(RestSender(stack.api_url, OPERATOR_KEY))),
        }
        for number, (each, where) in enumerate(product(rate, via)):
            load = _Load(stack, senders[where], accounts, f"evt-{number}")
            load.run(each, settle)
            about: dict[str, object] = {"rate": each, "via": where.value, "seconds": seconds}
            if where == Via.REST:
                about |= {"events_a_request": 1, "connections": CONNECTIONS}
            yield stack.say(experiment="day", **about, **load.run(each, seconds))


def idle(
    seconds: Annotated[float, typer.Option(help="Seconds of measurement.")] = 60,
    webhooks: Annotated[int, typer.Option(help="Webhooks, each of its own account.")] = 100,
    warm: Annotated[int, typer.Option(help="Deliveries before, after which the stages rest.")] = WARM_DELIVERIES,
    rest: Annotated[float, typer.Option(help="Seconds of rest before the measurement.")] = 75,
    partitions: Annotated[int, typer.Option(help="Partitions of a topic; 0: 12 of events, 24 of deliveries.")] = 0,
) -> dict[str, object]:
    """CPU, wake-ups and broker requests of each part while nothing happens, of which the broker alone has a part."""
    with running(stack_with_api(**_partitions(partitions))) as stack:
        stack.start((*WHOLE, "meter", "notify", "api"))
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(webhooks)])]
        stack.warm_up(accounts, warm)
        time.sleep(rest)
        busy = _at_rest(stack, seconds)
        stack.stop()
        alone = _at_rest(stack, seconds / 2)
        return stack.say(experiment="idle", seconds=seconds, webhooks=webhooks, **busy, kafka_alone=alone)


def _partitions(count: int) -> dict[str, str]:
    names = ("SCORM_WEBHOOKS_EVENT_PARTITIONS", "SCORM_WEBHOOKS_DELIVERY_PARTITIONS")
    return dict.fromkeys(names, str(count)) if count else {}


def _at_rest(stack: Stack, seconds: float) -> dict[str, object]:
    """What each part costs in these seconds."""
    requests, wakeups, cpu, began = stack.broker_requests(), stack.wakeups(), stack.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    took, cpu_after, wakeups_after = time.monotonic() - began, stack.cpu_seconds(), stack.wakeups()
    percent = {part: round(100 * (after - cpu[part]) / took, 2) for part, after in cpu_after.items()}
    return {
        "percent_of_a_core": round(sum(of for part, of in percent.items() if part not in _LOAD), 2),
        "percent_of_a_core_by_part": percent,
        "wakeups_per_second": per_event(wakeups, wakeups_after, took),
        "broker_requests_per_second": per_event(requests, stack.broker_requests(), took),
    }


class _Load:
    """Sends events of the accounts in turn; `name` is part of their ids."""

    def __init__(self, stack: Stack, sender: EventSender, accounts: Sequence[str], name: str) -> None:
        self._stack = stack
        self._sender = sender
        self._accounts = accounts
        self._name = name
        self._count = 0

    def run(self, rate: float, seconds: float) -> dict[str, object]:
        """Publish at this rate, and wait until all is delivered and recorded; return the figures."""
        requests_before, wakeups_before = self._stack.broker_requests(), self._stack.wakeups()
        before, recorded, began = self._stack.cpu_seconds(), self._recorded(), time.monotonic()
        sent: dict[str, float] = {}
        count = self._stack.at_rate(rate, seconds, partial(self._publish, sent))
        published_seconds = time.monotonic() - began
        failed = self._sender.finish()
        arrived = self._arrivals(sent, count - failed)
        assert arrived, f"none of {count} events was accepted"
        # An event has two records: its delivery and its attempt.
        until(lambda: self._recorded() >= recorded + 2 * len(arrived), 120, "all events are recorded", 0.2)
        after, wakeups, requests = self._stack.cpu_seconds(), self._stack.wakeups(), self._stack.broker_requests()
        cpu = {part: round(1000 * (after[part] - before[part]) / count, 3) for part in after}
        waits = [1000 * (at - sent[event_id]) for event_id, at in arrived.items()]
        return {
            "events": count,
            "failed": failed,
            "published_per_second": round(count / published_seconds, 1),
            "delivered_per_second": round(len(arrived) / (max(arrived.values()) - began), 1),
            "p50_ms": round(statistics.median(waits), 1),
            "p99_ms": round(percentile(waits, 0.99), 1),
            "max_ms": round(max(waits), 1),
            "cpu_ms_per_event_without_load": round(sum(ms for part, ms in cpu.items() if part not in _LOAD), 3),
            "cpu_ms_per_event": cpu,
            "wakeups_per_event": per_event(wakeups_before, wakeups, count),
            "broker_requests_per_event": per_event(requests_before, requests, count),
        }

    def _recorded(self) -> float:
        return self._stack.system.metric("record", "records_stored_total")

    def _publish(self, sent: dict[str, float], _: int) -> None:
        event_id = f"{self._name}-{self._count}"
        account = self._accounts[self._count % len(self._accounts)]
        self._count += 1
        sent[event_id] = time.monotonic()
        self._sender.send(launch(event_id, account))

    def _arrivals(self, sent: dict[str, float], count: int) -> dict[str, float]:
        """Wait for `count` events; return the first arrival time of each."""
        found: dict[str, float] = {}

        def have_arrived() -> bool:
            for _, event_id, at, _ in self._stack.take():
                if event_id in sent:
                    found.setdefault(event_id, at)
            return len(found) >= count

        until(have_arrived, 300, lambda: f"{len(found)} of {count} events arrived")
        return found


def per_event(before: Mapping[str, int], after: Mapping[str, int], events: float) -> dict[str, float]:
    """How much each count grew for an event, or in a second."""
    return {name: round((count - before[name]) / events, 2) for name, count in after.items()}
