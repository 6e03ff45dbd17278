"""Publishes events, and records which are acknowledged and which webhooks want them."""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from confluent_kafka import KafkaError, Producer

from e2e.learning_platform import completed, encoded, launched

TYPES = ("session.launched", "session.completed", "package.updated")
INVALID_EVENTS = (
    b"",
    b"\x00\x00\x00\x00\x07not ours",
    b"\xc3\x01too short",
    b"{}",
    b"[" * 200_000,
    bytes(900_000),
    completed("evt_long", "acme", totalTime="PT" + "1" * 500_000 + "S"),
    completed("evt.dotted", "acme"),
    completed("evt_nan", "acme", scoreRaw=float("nan")),
)
FLUSH_SECONDS = 120.0
LATE_SECONDS = 1.0


class Load:
    """The load of a scenario, whose name is the prefix of its event ids. Accounts in `busy` get events."""

    def __init__(self, folder: Path, bootstrap: str, topic: str) -> None:
        # Broker faults must not make this producer give up: unacknowledged events are not expected.
        # Where a broker's pod gets another address, nothing ends the old connection but this timeout.
        away = {"socket.timeout.ms": 10_000, "socket.connection.setup.timeout.ms": 5_000}
        # It writes to new partitions within a second. With more requests in flight librdkafka may acknowledge a record
        # that Kafka does not have, while a new partition has no leader yet.
        growing = {"topic.metadata.refresh.interval.ms": 1_000, "max.in.flight": 1}
        reliable = {"enable.idempotence": True, "linger.ms": 0}
        config = {"bootstrap.servers": bootstrap, **reliable, **away, **growing}
        self._producer = Producer(config, logger=_log_to(folder / "producer.log"))
        self._topic = topic
        self._published = (folder / "published").open("a", buffering=1)
        self._acknowledged = (folder / "acknowledged").open("a", buffering=1)
        self._wanted = (folder / "wanted").open("a", buffering=1)
        self._webhooks: dict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.busy: frozenset[str] = frozenset()
        self.owed = 0
        self.events = 0
        self.invalid_written = 0

    def wants(self, account: str, webhook: str, types: str = "") -> None:
        """Expect the account's later events at this webhook: all, or those of `types`."""
        self._webhooks[account].append((webhook, frozenset(types.split(",") if types else TYPES)))

    def add(self, webhook: str, events: Sequence[str]) -> None:
        """Expect these events, which others have published, at a webhook."""
        for event in events:
            self._write(self._published, event)
            self._write(self._acknowledged, event)
            self._write(self._wanted, f"{event} {webhook}")

    def start(self, scenario_run: str, seed: int, rate: float, copies: int, invalid_share: float) -> None:
        self._stopping.clear()
        self.owed = self.events = self.invalid_written = 0
        arguments = (scenario_run, random.Random(seed), rate, copies, invalid_share)
        self._thread = threading.Thread(target=self._publish, args=arguments, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until every event is acknowledged."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        left = self._producer.flush(FLUSH_SECONDS)
        assert left == 0, f"{left} events without an acknowledgement: producer.log beside the evidence says why"

    def close(self) -> None:
        self._stopping.set()
        for file in (self._published, self._acknowledged, self._wanted):
            file.close()

    def _publish(self, scenario_run: str, rng: random.Random, rate: float, copies: int, invalid_share: float) -> None:
        again: list[tuple[str, bytes]] = []
        for _ in self._ticks(rng, rate):
            if rng.random() < invalid_share:
                self._produce(rng.choice(INVALID_EVENTS))
            if again and rng.random() < 0.5:
                event, value = again.pop(rng.randrange(len(again)))
                self._produce(value, event)
                continue
            event, value = self._next(scenario_run, rng)
            self._produce(value, event)
            again += [(event, value)] * rng.randint(0, copies - 1)
        for event, value in again:
            self._produce(value, event)

    def _ticks(self, rng: random.Random, rate: float) -> Iterator[None]:
        """At random moments, `rate` a second whatever the work between them takes, until `stop`."""
        due = time.monotonic()
        while True:
            # After a pause of this process it does not publish all at once.
            due = max(due + rng.expovariate(rate), time.monotonic() - LATE_SECONDS)
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            yield

    def _next(self, scenario_run: str, rng: random.Random) -> tuple[str, bytes]:
        """A new event; records that it is published and which webhooks want it."""
        self.events += 1
        event, account = f"{scenario_run}:{self.events}", rng.choice(sorted(self.busy))
        (type_,) = rng.choices(TYPES, weights=(60, 37, 3))
        self._write(self._published, event)
        for webhook, types in self._webhooks[account]:
            if type_ in types:
                self._write(self._wanted, f"{event} {webhook}")
                self.owed += 1
        return event, encoded_as(type_, event, account, f"sess_{rng.randrange(1000)}")

    def _produce(self, value: bytes, event: str | None = None) -> None:
        def on_delivery(error: KafkaError | None, _: object) -> None:
            if error is None and event:
                self._write(self._acknowledged, event)
            elif error is None:
                self.invalid_written += 1

        self._producer.produce(self._topic, value, event or "invalid", on_delivery=on_delivery)
        self._producer.poll(0)

    def _write(self, file: TextIO, line: str) -> None:
        file.write(line + "\n")


def _log_to(path: Path) -> logging.Logger:
    """A log of its own: what the client met is not in the events."""
    logger = logging.getLogger(f"load in {path}")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    return logger


def encoded_as(type_: str, event: str, account: str, session: str) -> bytes:
    if type_ == "session.launched":
        # `meter` does not count launches of last spring.
        return launched(event, account, session, datetime.now(UTC))
    if type_ == "session.completed":
        return completed(event, account, sessionId=session)
    data = {"packageId": "pkg_1", "version": "2", "title": None}
    return encoded(event, type_, account, ("scormwebhooks.v1.PackageUpdated", data))
