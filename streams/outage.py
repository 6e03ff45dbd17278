"""Wait through outages. Each outage is logged once at its start and once at its end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from streams.core.encryption import WrongKeys
from streams.core.errors import TokenUnavailable, Unavailable
from streams.ports.runtime import Telemetry

Result = TypeVar("Result")

# A stage has several clients of the broker: with the same text, `/readyz` shows it once.
BROKER_AWAY = "the broker does not answer"


@dataclass(frozen=True, slots=True)
class OutageKind:
    """The log events of an outage's start and end, and the error that means it."""

    started: str
    ended: str
    error: type[Unavailable] = Unavailable
    needs_person: bool = False


BROKER = OutageKind("broker_unreachable", "broker_reachable")
# The clients go on with the last token until it ends.
KAFKA_TOKEN = OutageKind("kafka_token_unavailable", "kafka_token_available", TokenUnavailable)
DATABASE = OutageKind("database_unreachable", "database_reachable")
MAIL_SERVER = OutageKind("mail_server_unreachable", "mail_server_reachable")
SCHEMA_REGISTRY = OutageKind("schema_registry_unreachable", "schema_registry_reachable")
# The past of `session-events` cannot be read for a backfill.
EVENT_HISTORY = OutageKind("event_history_unavailable", "event_history_available")
# Kafka answers, but this topic takes no records: a permission or the topic itself is missing.
TOPIC = OutageKind("topic_unwritable", "topic_writable")
# The broker refuses offset commits, for example while the group rebalances.
COMMITS = OutageKind("commit_failed", "commit_succeeded")
# One job cannot go on, for example because a query of it takes too long.
JOB = OutageKind("job_postponed", "job_resumed")
# Rows of one kind cannot be deleted after their retention, for example because a permission is missing.
PRUNING_OUTAGE = OutageKind("retention_postponed", "retention_resumed")
# This machine has no free connection, thread or memory for an attempt.
RESOURCE_SHORTAGE = OutageKind("attempts_postponed", "attempts_resumed")
# The proxy that requests to endpoints go through opens no connections.
EGRESS_PROXY = OutageKind("egress_proxy_unavailable", "egress_proxy_available")
# Only a person can configure the right keys.
ENCRYPTION_KEYS = OutageKind("encryption_keys_wrong", "encryption_keys_right", WrongKeys, needs_person=True)


class Outage:
    """One outage of one dependency. It lasts until every waiter has seen its end; `now` is in seconds."""

    def __init__(
        self,
        telemetry: Telemetry,
        kind: OutageKind,
        fields: dict[str, object] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._telemetry = telemetry
        self._kind = kind
        self._fields = fields or {}
        self._now = now
        self._started_at = 0.0
        self._waiters: set[Hashable] = set()
        self.why = ""

    def __contains__(self, waiter: Hashable) -> bool:
        return waiter in self._waiters

    def begin(self, waiter: Hashable, reason: str) -> None:
        """Note that `waiter` cannot go on. The first waiter starts the outage."""
        if not self._waiters:
            self._started_at, self.why = self._now(), reason
            log = self._telemetry.error if self._kind.needs_person else self._telemetry.warning
            log(self._kind.started, why=reason, **self._fields)
        self._waiters.add(waiter)

    def end(self, waiter: Hashable) -> None:
        """Note that `waiter` can go on. The last waiter ends the outage."""
        if waiter in self._waiters:
            self._waiters.discard(waiter)
            if not self._waiters:
                seconds = round(self._now() - self._started_at, 1)
                self._telemetry.info(self._kind.ended, seconds=seconds, **self._fields)

    def forget(self, waiter: Hashable) -> None:
        """Note that `waiter` no longer waits and does not know whether the outage is over."""
        self._waiters.discard(waiter)


class Outages:
    """The outages that one process meets, one for each kind. All its clients share them."""

    def __init__(
        self,
        telemetry: Telemetry,
        now: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._telemetry = telemetry
        self._now = now
        self._sleep = sleep
        self._outages: dict[OutageKind, Outage] = {}

    def __getitem__(self, kind: OutageKind) -> Outage:
        if kind not in self._outages:
            self._outages[kind] = Outage(self._telemetry, kind, now=self._now)
        return self._outages[kind]

    async def retry(self, step: Callable[[], Awaitable[Result]], every_seconds: float, *kinds: OutageKind) -> Result:
        """Repeat `step` while it raises the error of one of `kinds`, the first that fits. Return its result."""
        waiter = object()
        outage: Outage | None = None
        try:
            while True:
                try:
                    result = await step()
                except Unavailable as error:
                    kind = next((kind for kind in kinds if isinstance(error, kind.error)), None)
                    if kind is None:
                        raise
                    if outage is not None and outage is not self[kind]:
                        outage.end(waiter)
                    outage = self[kind]
                    outage.begin(waiter, str(error))
                    await self._sleep(every_seconds)
                else:
                    return result
        except asyncio.CancelledError:
            if outage is not None:
                outage.forget(waiter)
            raise
        finally:
            # Any other exception is an answer, too.
            if outage is not None:
                outage.end(waiter)
