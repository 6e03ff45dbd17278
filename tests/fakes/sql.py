"""The database in memory: what is recorded, what is owed to the topic, and who may publish."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from streams.core.attempt import Attempt
from streams.core.errors import Refused, Unavailable
from streams.core.health import Attempted, Health
from streams.core.standing import Batch, Standing
from streams.core.webhook import Webhook
from streams.ports import Due


@dataclass
class FakeRecorder:
    """A `Recorder`: standings, attempts and bodies by their ids, health by webhook."""

    refuses: Callable[[Batch], bool] = lambda batch: False
    away: bool = False
    calls: int = 0
    standings: dict[str, Standing] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)

    async def record(self, batch: Batch) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the database is away")
        if self.refuses(batch):
            raise Refused("the database will not take this")
        for attempt in batch.attempts:
            if attempt.id not in self.attempts:
                self.attempts[attempt.id] = attempt
                self._count(attempt)
        for key, body in batch.bodies.items():
            self.bodies.setdefault(key, body)
        for standing in batch.standings:
            known = self.standings.get(standing.delivery_id)
            if known is None or standing.supersedes(known):
                self.standings[standing.delivery_id] = standing

    def of(self, webhook_id: str) -> list[Standing]:
        return [standing for standing in self.standings.values() if standing.webhook_id == webhook_id]

    def _count(self, attempt: Attempt) -> None:
        health = self.health.get(attempt.webhook_id, Health(attempt.health_epoch))
        attempted = Attempted(
            attempt.health_epoch,
            attempt.trigger,
            attempt.target,
            attempt.kind,
            attempt.started_at,
            attempt.ended_at,
        )
        self.health[attempt.webhook_id] = health.after([attempted])


class FakeOutbox:
    """An `Outbox` on webhooks by id; None in a webhook's place means that it was deleted."""

    def __init__(self) -> None:
        self._webhooks: dict[str, tuple[int, Webhook | None]] = {}
        self._dirty: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.away = False

    def put(self, webhook: Webhook) -> None:
        self._change(webhook.id, webhook)

    def remove(self, webhook_id: str) -> None:
        self._change(webhook_id, None)

    async def compare(self, versions: Mapping[str, int]) -> Sequence[str]:
        self._check()
        for webhook_id, (version, webhook) in self._webhooks.items():
            if versions.get(webhook_id) != (version if webhook else None):
                self._dirty[webhook_id] = version
        return sorted(versions.keys() - self._webhooks.keys())

    async def due(self, limit: int) -> Sequence[Due]:
        self._check()
        return [Due(webhook_id, *self._webhooks[webhook_id]) for webhook_id in list(self._dirty)[:limit]]

    async def published(self, due: Due, appended_at: datetime) -> None:
        self._check()
        if self._dirty.get(due.webhook_id, due.version + 1) <= due.version:
            del self._dirty[due.webhook_id]
        version, webhook = self._webhooks[due.webhook_id]
        if webhook is not None and webhook.created_at is None:
            self._webhooks[due.webhook_id] = version, replace(webhook, created_at=appended_at)

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def _change(self, webhook_id: str, webhook: Webhook | None) -> None:
        version, known = self._webhooks.get(webhook_id, (0, None))
        if webhook is not None:
            created_at = known.created_at if known else webhook.created_at
            webhook = replace(webhook, version=version + 1, created_at=created_at)
        self._webhooks[webhook_id] = version + 1, webhook
        self._dirty[webhook_id] = version + 1
        self._changed.set()

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away")


@dataclass
class FakeLease:
    """A `Lease`, free unless `others` have it."""

    others: bool = False
    away: bool = False
    held: bool = False

    async def renew(self) -> bool:
        self._check()
        self.held = not self.others
        return self.held

    async def release(self) -> None:
        self._check()
        self.held = False

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away")
