"""The ports that the stages need, in memory and at a clock that moves only when it is told to."""

import asyncio
import heapq
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count as counting

from builders import NOON
from streams.core.attempt import Attempt
from streams.core.delivery import ViewPosition
from streams.core.errors import Refused, Unavailable, Unreadable
from streams.core.health import Attempted, Health
from streams.core.ledger import Commit
from streams.core.outcome import Answer, Failure
from streams.core.request import Request
from streams.core.standing import Batch, Standing
from streams.core.view import SENTINEL_KEY, VERSION_HEADER, Sentinel, View
from streams.core.webhook import Webhook
from streams.ports import Codec, Due, FeedHandler, Outgoing, Partition, Record
from streams.topics import SUBSCRIPTIONS

# -- waiting -------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Let the others run until `condition` holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


async def quiet(turns: int = 100) -> None:
    """Let the others run until, in a world without real waits, nothing is left to do."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def cancel_others() -> None:
    """End all that runs besides the caller, as `kill -9` does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


# -- time ----------------------------------------------------------------------------------------------------


class FakeClock:
    """A `Clock`, and timers: `advance` calls what falls due, each at its own moment."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._order = counting()
        self._timers: list[tuple[datetime, int, Callable[[], object]]] = []

    def now(self) -> datetime:
        return self._now

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        due = self._now + timedelta(seconds=seconds)
        heapq.heappush(self._timers, (due, next(self._order), callback))

    def advance(self, seconds: float) -> None:
        end = self._now + timedelta(seconds=seconds)
        while self._timers and self._timers[0][0] <= end:
            self._now, _, callback = heapq.heappop(self._timers)
            callback()
        self._now = end


# -- Kafka ---------------------------------------------------------------------------------------------------


class FakeLog:
    """A Kafka: a `Log`, its records by partition, and what each group committed.

    Away, it makes whoever produces wait. After `die_in(n)` the n-th call to `produce` is the last thing that
    its process did, before or after the records were appended: no call returns any more until `revive`.
    """

    def __init__(self, clock: FakeClock, partitions: int = 2) -> None:
        self._clock = clock
        self._partitions = partitions
        self._records: dict[Partition, list[Record]] = {}
        self._topics: defaultdict[str, list[Record]] = defaultdict(list)
        self._here = asyncio.Event()
        self._here.set()
        self._calls_left: int | None = None
        self._append_last = False
        self.groups: defaultdict[str, dict[Partition, Commit]] = defaultdict(dict)
        self.appended: list[Callable[[], None]] = []

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        await asyncio.sleep(0)
        await self._here.wait()
        await self._live_through(records)
        return [self.append(record).appended_at for record in records]

    def append(self, outgoing: Outgoing) -> Record:
        partition = self.partition_of(outgoing)
        records = self._records.setdefault(partition, [])
        now = self._clock.now()
        record = Record(partition, len(records), outgoing.key, outgoing.value, now, tuple(outgoing.headers))
        records.append(record)
        self._topics[outgoing.topic].append(record)
        for tell in self.appended:
            tell()
        return record

    def partition_of(self, outgoing: Outgoing) -> Partition:
        partitions = self.partitions(outgoing.topic)
        return partitions[zlib.crc32(outgoing.key or b"") % len(partitions)]

    def partitions(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(1 if topic == SUBSCRIPTIONS else self._partitions)]

    def records(self, partition: Partition) -> list[Record]:
        return self._records.get(partition, [])

    def topic(self, name: str) -> list[Record]:
        """The topic's records in the order in which they were appended."""
        return self._topics[name]

    def leave(self) -> None:
        self._here.clear()

    def come_back(self) -> None:
        self._here.set()

    def die_in(self, calls: int, *, appended: bool = False) -> None:
        self._calls_left, self._append_last = calls, appended

    @property
    def is_dead(self) -> bool:
        return self._calls_left is not None and self._calls_left <= 0

    def revive(self) -> None:
        self._calls_left = None

    async def _live_through(self, records: Iterable[Outgoing]) -> None:
        if self._calls_left is None:
            return
        self._calls_left -= 1
        if self._calls_left == 0 and self._append_last:
            for record in records:
                self.append(record)
        if self.is_dead:
            await asyncio.Event().wait()


class FakeFeed:
    """A `Feed`: the only member of a group on a `FakeLog`; another one goes on where this one committed."""

    def __init__(self, log: FakeLog, group: str, topics: Sequence[str]) -> None:
        self._log = log
        self._topics = topics
        self._positions: dict[Partition, int] = {}
        self._more = asyncio.Event()
        self._handler: FeedHandler | None = None
        self.committed = log.groups[group]
        self.paused: set[Partition] = set()
        self.away = False

    async def run(self, handler: FeedHandler) -> None:
        self._handler = handler
        self._log.appended.append(self._more.set)
        self.assign([partition for topic in self._topics for partition in self._log.partitions(topic)])
        try:
            while True:
                self._more.clear()
                if records := self._fetch():
                    handler.received(records)
                await self._more.wait()
        finally:
            self._log.appended.remove(self._more.set)

    def assign(self, partitions: Sequence[Partition]) -> None:
        assert self._handler
        for partition in partitions:
            commit = self.committed.get(partition)
            self._positions[partition] = commit.offset if commit else 0
        self._handler.assigned({partition: self.committed.get(partition) for partition in partitions})
        self._more.set()

    async def revoke(self, partitions: Sequence[Partition], *, lost: bool = False) -> None:
        assert self._handler
        commits = await self._handler.revoked(partitions, lost=lost)
        assert set(commits) <= set(partitions)
        for partition in partitions:
            del self._positions[partition]
            self.paused.discard(partition)
        self.committed.update(commits)

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the coordinator is away")
        for partition, commit in commits.items():
            assert partition not in self.committed or commit.offset >= self.committed[partition].offset
        self.committed.update(commits)

    def pause(self, partition: Partition, rewind_to: int | None) -> None:
        self.paused.add(partition)
        if rewind_to is not None:
            self._positions[partition] = rewind_to

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)
        self._more.set()

    def _fetch(self) -> list[Record]:
        fetched: list[Record] = []
        for partition, position in self._positions.items():
            if partition not in self.paused:
                records = self._log.records(partition)
                fetched += records[position:]
                self._positions[partition] = max(position, len(records))
        return fetched


class FakeView:
    """`Subscriptions` and `Directory`: a `View` of what the log's topic holds."""

    def __init__(self, log: FakeLog, codec: Codec) -> None:
        self.view = View()
        self._log = log
        self._codec = codec
        self._moved = asyncio.Event()
        log.appended.append(self._moved.set)

    async def catch_up(self) -> ViewPosition:
        await self._read_until(self.view.is_complete)
        return self.view.seen

    async def wait_for(self, seen: ViewPosition) -> None:
        await self._read_until(lambda: self.view.is_complete() and self.view.has_reached(seen))

    def find(self, webhook_id: str) -> Webhook | None:
        self._read()
        return self.view.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.view.of_account(account_id)

    async def _read_until(self, condition: Callable[[], bool]) -> None:
        self._read()
        while not condition():
            self._moved.clear()
            await self._moved.wait()
            self._read()

    def _read(self) -> None:
        for record in self._log.topic(SUBSCRIPTIONS)[self.view.position :]:
            self._apply(record)

    def _apply(self, record: Record) -> None:
        key = (record.key or b"").decode()
        if record.value is None:
            self.view.remove(record.offset, key, int(dict(record.headers)[VERSION_HEADER]))
        elif key == SENTINEL_KEY:
            self.view.mark(record.offset, Sentinel.decode(record.value))
        else:
            noun = self._codec.decode(record.value)
            assert isinstance(noun, Webhook)
            self.view.put(record.offset, noun, record.appended_at)


# -- endpoints -----------------------------------------------------------------------------------------------

Endpoint = Callable[[Request], Awaitable[Answer | Failure]]


class FakeSender:
    """A `Sender`: each URL has an endpoint, a new one answers 200; every request is kept, with its time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self.requests: list[Request] = []
        self.sent_at: list[datetime] = []

    async def send(self, request: Request) -> Answer | Failure:
        self.requests.append(request)
        self.sent_at.append(self._clock.now())
        answer = self._endpoints.get(request.url)
        return await answer(request) if answer else Answer(200, {})

    def put(self, url: str, endpoint: Endpoint) -> None:
        self._endpoints[url] = endpoint

    def answers(self, url: str, *script: Answer | Failure) -> None:
        """The answers in turn; the last one stays."""
        left = list(script)

        async def endpoint(_: Request) -> Answer | Failure:
            return left.pop(0) if len(left) > 1 else left[0]

        self.put(url, endpoint)

    def hangs(self, url: str, then: Answer | Failure | None = None) -> asyncio.Event:
        """Nothing is answered before the event is set."""
        release = asyncio.Event()

        async def endpoint(_: Request) -> Answer | Failure:
            await release.wait()
            return then or Answer(200, {})

        self.put(url, endpoint)
        return release

    def to(self, url: str) -> list[Request]:
        return [request for request in self.requests if request.url == url]


class FakeSealed:
    """`Sealed` and `Sealer`: what is sealed begins with `sealed:`."""

    def seal(self, plain: str) -> str:
        return "sealed:" + plain

    def secret(self, sealed: str) -> str:
        if not sealed.startswith("sealed:"):
            raise Unreadable("no key of ours fits")
        return sealed.removeprefix("sealed:")

    def headers(self, sealed: str | None) -> Mapping[str, str]:
        headers: dict[str, str] = json.loads(self.secret(sealed)) if sealed else {}
        return headers


# -- the database --------------------------------------------------------------------------------------------


@dataclass
class FakeRecorder:
    """A `Recorder` and `Generations`: standings, attempts and bodies by their ids, health by webhook."""

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

    async def newest(self, delivery_id: str) -> int | None:
        standing = None if self.away else self.standings.get(delivery_id)
        return standing.generation if standing else None

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
            on_topic = versions.get(webhook_id)
            if on_topic != (version if webhook else None):
                newest = version if on_topic is None else max(version, on_topic + 1)
                self._webhooks[webhook_id] = newest, replace(webhook, version=newest) if webhook else None
                self._dirty[webhook_id] = newest
        return sorted(versions.keys() - self._webhooks.keys())

    async def owe(self, webhook_ids: Sequence[str]) -> None:
        self._check()
        self._dirty |= {name: self._webhooks[name][0] for name in webhook_ids if name in self._webhooks}

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


# -- the operator --------------------------------------------------------------------------------------------


@dataclass
class FakeReport:
    """A `Report`: counts by metric, with their labels, and the facts that were told."""

    counts: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, float] = field(default_factory=dict)
    observed: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    facts: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        self.counts[metric] += int(amount)

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        self.gauges[metric] = value

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        self.observed[metric].append(value)

    def tell(self, fact: str, /, **ids: object) -> None:
        self.facts.append((fact, ids))

    def told(self, fact: str) -> int:
        """How often this was told."""
        return sum(1 for told, _ in self.facts if told == fact)
