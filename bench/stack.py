"""A whole system for an experiment: real Kafka and PostgreSQL, every stage a process, the sink, a load generator."""

import asyncio
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import fastavro
import psycopg
from confluent_kafka import Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from bench.closed_loop import closed_loop
from bench.processes import cpu, cpu_of_tree, family, memory_mb, shared_memory_mb, wakeups
from bench.servers import ProductionKafka, kafka_settings, postgres_settings, production_postgres
from bench.sink import Receipt, Sink
from e2e.system import STAGES, System, until
from real.process import free_ports
from streams.core.webhooks.webhook import Webhook
from streams.core.webhooks.webhook_input import WebhookInput
from streams.runtime.bootstrap import SqlDeployment

_SCHEMA = schemas.current("session_event")
_PARSED = fastavro.parse_schema(_SCHEMA)
_HEADER = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(_SCHEMA), "CRC-64-AVRO"))
# Settings of the caller that reach the stages, so that both values of a choice can be measured.
CHOICES = ("SCORM_WEBHOOKS_FAN_OUT_CONSUMER", "SCORM_WEBHOOKS_LATENCY_BUDGET_MS")
# The stages that an event passes, and what runs beside them.
WHOLE = (*STAGES, "maintain")
# The broker's just-in-time compiler needs half a minute of load.
WARM_DELIVERIES = 30_000
# CPU shares, as CPU requests of a deployment: stages on the path of an event come first.
_COMES_LATER = ("publish", "record", "maintain")
_LATER = "10"

_Number = TypeVar("_Number", int, float)


class Stack:
    """Starts everything; `close` stops it and deletes its data."""

    def __init__(self, **env: str) -> None:
        self._kafka = ProductionKafka()
        self._postgres = production_postgres()
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.sink = Sink()
        self._packages: Sequence[str] = ("pkg_1",)
        url = self._postgres.url()
        self.system = System(
            Path(self._folder.name),
            {
                "KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap,
                "DATABASE_URL": url,
                "SCORM_WEBHOOKS_RETRY_SCHEDULE": "30s,2m,10m,1h,6h",
                "SCORM_WEBHOOKS_EVENT_PARTITIONS": "12",
                "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": "24",
                "SCORM_WEBHOOKS_LOG_LEVEL": "warning",
                **{name: os.environ[name] for name in CHOICES if name in os.environ},
                **env,
            },
            own_sessions=True,
        )
        self.system.prepare()
        self._producer = Producer(
            {
                "bootstrap.servers": self._kafka.bootstrap,
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 2,
            }
        )
        self._started: set[str] = set()
        self._more: list[tuple[System, Sequence[str]]] = []
        self.acknowledged = 0
        self.receipts: list[Receipt] = []

    @property
    def api_port(self) -> str:
        """The port of the API, on a stack with an API."""
        return self.system.env["SCORM_WEBHOOKS_API_PORT"]

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def bootstrap(self) -> str:
        """The address of the broker."""
        return self._kafka.bootstrap

    def start(self, stages: Sequence[str] = WHOLE) -> None:
        self.system.start(stages)
        self._started |= set(stages)

    def stop(self) -> None:
        """Stop every stage; the servers stay."""
        for stage in sorted(self._started):
            self.system.stop(stage)
        self._started.clear()

    def settings(self) -> dict[str, object]:
        """The settings of the database, the broker and the stages, without keys."""
        system = {name: value for name, value in self.system.env.items() if name.startswith("SCORM_WEBHOOKS_")}
        return {
            "postgresql": postgres_settings(self.system.env["DATABASE_URL"]),
            "kafka": kafka_settings(),
            "stages": {name: value for name, value in system.items() if not name.endswith(("_KEYS", "_PORT"))},
        }

    def say(self, **figures: object) -> dict[str, object]:
        """Print the figures of an experiment on this stack; return the result."""
        return say(self.settings(), **figures)

    def start_more(self, stages: Sequence[str]) -> None:
        """Start more processes of running stages."""
        self.another(stages).start(stages)

    def another(self, stages: Sequence[str] = ()) -> System:
        """A place for more processes of running stages; the CPU of `stages` counts with that of the first ones."""
        folder = Path(self._folder.name) / f"more-{len(self._more)}"
        folder.mkdir()
        more = System(folder, self.system.env, own_sessions=True)
        self._more.append((more, stages))
        return more

    def stop_kafka(self) -> None:
        """Kill the broker."""
        self._kafka.kill()

    def start_kafka(self) -> None:
        self._kafka.start()

    def register(
        self, paths: Sequence[str], max_concurrency: int = 32, rules: Mapping[str, Mapping[str, Any]] | None = None
    ) -> list[tuple[str, str]]:
        """Create an account with one webhook for each path of the sink; return their ids. `rules` are by path."""
        return [(webhook.account_id, webhook.id) for webhook in self.register_whole(paths, max_concurrency, rules)]

    def register_whole(
        self, paths: Sequence[str], max_concurrency: int = 32, rules: Mapping[str, Mapping[str, Any]] | None = None
    ) -> list[Webhook]:
        """Create an account with one webhook for each path of the sink."""
        deployment = SqlDeployment.from_environment(self.system.env)

        async def open_one(path: str) -> Webhook:
            opened = await deployment.accounts().open(path, (), actor="bench")
            own_rules = (rules or {}).get(path, {})
            webhook_input = WebhookInput(
                opened.account.id, self.sink.url(path), max_concurrency=max_concurrency, **own_rules
            )
            made = await deployment.webhooks().register(webhook_input, actor="bench")
            return made.change.registration.webhook

        async def open_all() -> list[Webhook]:
            made: list[Webhook] = []
            for start in range(0, len(paths), 20):
                made += await asyncio.gather(*map(open_one, paths[start : start + 20]))
            await deployment.database.close()
            return made

        return asyncio.run(open_all())

    def register_account(self, paths: Sequence[str], packages: Sequence[str] = (), unmatched: int = 0) -> str:
        """Create one account with a webhook for each path of the sink; return the account's id.

        With `packages`, each webhook wants the events of one of them, and the account's events belong to each in turn.
        It has `unmatched` more webhooks, whose filters no event matches.
        """
        deployment = SqlDeployment.from_environment(self.system.env)

        async def register() -> str:
            account_id = (await deployment.accounts().open("bursting", (), actor="bench")).account.id
            webhooks = deployment.webhooks()
            for number, path in enumerate(paths):
                scope = packages[number : number + 1]
                webhook_input = WebhookInput(account_id, self.sink.url(path), packages=scope, max_concurrency=32)
                await webhooks.register(webhook_input, actor="bench")
            for number in range(unmatched):
                webhook_input = WebhookInput(
                    account_id, self.sink.url("/unmatched"), filter={"packageId": f"no_{number}"}
                )
                await webhooks.register(webhook_input, actor="bench")
            self._packages = packages or self._packages
            await deployment.database.close()
            return account_id

        return asyncio.run(register())

    def publish(self, event_id: str, account_id: str, number: int = 0) -> None:
        """Queue the event of one launched session. `number` chooses its package."""
        event = launched(event_id, account_id, self._packages[number % len(self._packages)])
        self._producer.produce("session-events", event, event_id, on_delivery=self._acknowledged)
        self._producer.poll(0)

    def publish_many(self, name: str, account_ids: Sequence[str], count: int) -> None:
        """Publish `count` events `<name>_<number>` of the accounts in turn; wait for their acknowledgements."""
        for number in range(count):
            self.publish(f"{name}_{number}", account_ids[number % len(account_ids)], number)
        self.flush()

    def warm_up(self, account_ids: Sequence[str], deliveries: int = WARM_DELIVERIES) -> None:
        """Warm up the broker's compiler and open every connection before a measurement."""
        self.publish_many("warm", account_ids, deliveries)
        self.wait_for(deliveries, 120)
        until(lambda: sum(self.states().values()) == self.states().get("delivered", 0) >= deliveries, 60)
        self.take()

    def flush(self) -> None:
        assert self._producer.flush(120) == 0

    def at_rate(self, per_second: float, seconds: float, publish: Callable[[int], None]) -> int:
        """Call `publish` with 0, 1, 2 … at this rate; return the number of calls."""
        self._set_cpu_shares()
        began, count = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while count < passed * per_second:
                publish(count)
                count += 1
            self._producer.poll(0)
            time.sleep(0.001)
        self.flush()
        return count

    def keep_undelivered(self, limit: int, seconds: float, account_ids: Sequence[str]) -> int:
        """Publish for `seconds` with at most `limit` undelivered events; return the number published.

        It counts each event that arrives from now on once: call it when none is in flight.
        """
        ends = time.monotonic() + seconds

        def pause() -> None:
            self._producer.poll(0)
            time.sleep(0.001)

        published = closed_loop(
            limit,
            delivered=self.sink.count,
            publish=lambda number: self.publish(f"evt_{number}", account_ids[number % len(account_ids)], number),
            pause=pause,
            is_over=lambda: time.monotonic() >= ends,
        )
        self.flush()
        return published

    def wait_for(self, receipts: int, seconds: float) -> None:
        until(lambda: self.sink.count() >= receipts, seconds, f"{receipts} requests at the sink")

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each part so far, including the load generator (this process)."""
        return {**self._of_each(cpu), "postgres": cpu_of_tree(self._postgres.pid)}

    def wakeups(self) -> dict[str, int]:
        """How often the threads of each part waited for something, so far."""
        return self._of_each(wakeups)

    def broker_requests(self) -> dict[str, int]:
        """The requests that the broker has answered so far, by kind."""
        return self._kafka.requests()

    def _of_each(self, measure: Callable[[int], _Number]) -> dict[str, _Number]:
        """A figure of each part that is one process; several processes of a stage are one part."""
        pids = {
            "kafka": self._kafka.pid,
            "sink": self.sink.pid,
            "generator": os.getpid(),
            **{stage: self.system.pid(stage) for stage in sorted(self._started)},
        }
        parts = {name: measure(pid) for name, pid in pids.items()}
        for more, stages in self._more:
            for stage in stages:
                parts[stage] += measure(more.pid(stage))
        return parts

    def memory_mb(self, stage: str) -> float:
        """Resident memory of a stage's process."""
        return memory_mb(self.system.pid(stage))

    def shared_memory_mb(self, stage: str) -> float:
        """Memory of a stage's process; what it shares with other processes is divided among them."""
        return shared_memory_mb(self.system.pid(stage))

    def states(self, webhook_id: str | None = None) -> dict[str, int]:
        """Number of deliveries by state, of one webhook or all."""
        where = "WHERE webhook_id = %s" if webhook_id else ""
        query = f"SELECT state, count(*) FROM deliveries {where} GROUP BY state"
        with psycopg.connect(self.system.env["DATABASE_URL"]) as connection:
            return dict(connection.execute(query.encode(), [webhook_id] if webhook_id else []).fetchall())

    def database_bytes(self) -> int:
        """The size of the database, with indexes."""
        with psycopg.connect(self.system.env["DATABASE_URL"]) as connection:
            ((size,),) = connection.execute("SELECT pg_database_size(current_database())").fetchall()
        return int(size)

    def wait_for_record(self, deliveries: int, seconds: float) -> None:
        """Wait until `deliveries` are recorded with one attempt each; ask `record`, because counting rows loads SQL."""
        records = 2 * deliveries
        until(
            lambda: self.system.metric("record", "records_stored_total") >= records, seconds, f"{records} records", 0.2
        )
        self.wait_for_states({"delivered": deliveries}, 10)

    def wait_for_states(self, wanted: dict[str, int], seconds: float, webhook_id: str | None = None) -> None:
        until(lambda: self.states(webhook_id) == wanted, seconds, f"{wanted}")

    def take(self) -> list[Receipt]:
        """The requests since the last call; all are kept in `receipts`."""
        new = self.sink.take()
        self.receipts += new
        return new

    def close(self) -> None:
        for more, _ in self._more:
            more.close()
        self.system.close()
        self.sink.close()
        self._postgres.remove()
        self._kafka.remove()
        self._folder.cleanup()

    def _set_cpu_shares(self) -> None:
        """Set CPU shares: each process is a session with its own share, and some get a smaller one."""
        later = [self.system.pid(stage) for stage in _COMES_LATER if stage in self._started]
        for pid in [*later, *family(self._postgres.pid)]:
            # The kernel may not support this, and a process may have ended.
            with suppress(OSError):
                Path(f"/proc/{pid}/autogroup").write_text(_LATER)

    def _acknowledged(self, error: object, _: object) -> None:
        assert error is None, error
        self.acknowledged += 1


def stack_with_api(**env: str) -> Stack:
    """A stack with an API, and rate limits that no experiment reaches."""
    [port] = free_ports(1)
    limits = {"SCORM_WEBHOOKS_RATE_LIMIT": "1000000", "SCORM_WEBHOOKS_EVENT_RATE_LIMIT": "1000000"}
    return Stack(SCORM_WEBHOOKS_API_PORT=str(port), **limits | env)


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """The stack, closed at the end."""
    try:
        yield stack
    finally:
        stack.close()


def launched(event_id: str, account_id: str, package_id: str = "pkg_1") -> bytes:
    """A `session.launched` record, as a producer writes it."""
    out = io.BytesIO()
    out.write(_HEADER)
    data = {"sessionId": "sess_1", "packageId": package_id, "dispatchId": None, "learnerId": "learner-42"}
    record = {
        "id": event_id,
        "type": "session.launched",
        "accountId": account_id,
        "occurredAt": datetime.now(UTC),
        "traceParent": None,
        "data": ("scormwebhooks.v1.SessionLaunched", data),
    }
    fastavro.schemaless_writer(out, _PARSED, record)
    return out.getvalue()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share of all values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(settings: object, **figures: object) -> dict[str, object]:
    """Print the figures, as one line of JSON and as a table; return the result."""
    print(json.dumps(figures))
    width = max(map(len, figures))
    for name, figure in figures.items():
        parts = figure.items() if isinstance(figure, dict) else ()
        print(f"  {name:{width}}  {'  '.join(f'{part} {value}' for part, value in parts) or figure}")
    sys.stdout.flush()
    return {**figures, "settings": settings}
