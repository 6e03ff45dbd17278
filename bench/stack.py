"""A whole system for an experiment: real Kafka and PostgreSQL, every stage a process, the sink, a load generator."""

import asyncio
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import psycopg
from confluent_kafka import Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from bench.sink import Receipt, Sink
from e2e.system import STAGES, System, until
from real.kafka import Kafka
from real.postgres import Postgres
from streams.services.webhooks import Wish
from streams.wiring import Deployment

_SCHEMA = schemas.current("session_event")
_PARSED = fastavro.parse_schema(_SCHEMA)
_HEADER = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(_SCHEMA), "CRC-64-AVRO"))
_TICKS = os.sysconf("SC_CLK_TCK")


class Stack:
    """Everything is started when made; `close` ends it and takes its data away."""

    def __init__(self, **env: str) -> None:
        self._kafka = Kafka()
        self._postgres = Postgres()
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.sink = Sink()
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
                **env,
            },
        )
        self.system.prepare()
        self._producer = Producer(
            {"bootstrap.servers": self._kafka.bootstrap, "linger.ms": 1, "queue.buffering.max.messages": 1_000_000}
        )
        self.acknowledged = 0
        self.receipts: list[Receipt] = []

    def start(self, stages: Sequence[str] = STAGES) -> None:
        self.system.start(stages)

    def register(self, paths: Sequence[str], max_concurrency: int = 32) -> list[tuple[str, str]]:
        """An account with one webhook for each path of the sink; their ids."""
        deployment = Deployment.from_environment(self.system.env)

        async def open_one(path: str) -> tuple[str, str]:
            opened = await deployment.accounts().open(path, ())
            wish = Wish(opened.account.id, self.sink.url(path), max_concurrency=max_concurrency)
            made = await deployment.webhooks().register(wish)
            return opened.account.id, made.changed.registration.webhook.id

        async def open_all() -> list[tuple[str, str]]:
            made = []
            for start in range(0, len(paths), 20):
                made += await asyncio.gather(*map(open_one, paths[start : start + 20]))
            await deployment.database.close()
            return made

        return asyncio.run(open_all())

    def publish(self, event_id: str, account_id: str) -> None:
        """One launched session; its record is queued."""
        self._producer.produce(
            "session-events", launched(event_id, account_id), event_id, on_delivery=self._acknowledged
        )
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(120) == 0

    def at_rate(self, per_second: float, seconds: float, publish: Callable[[int], None]) -> int:
        """Call `publish` with 0, 1, 2 … at this pace; how many that were."""
        began, count = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while count < passed * per_second:
                publish(count)
                count += 1
            self._producer.poll(0)
            time.sleep(0.001)
        self.flush()
        return count

    def wait_for(self, receipts: int, seconds: float) -> None:
        until(lambda: self.sink.count() >= receipts, seconds, f"{receipts} requests at the sink")

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each part so far, the load generator (this process) included."""
        pids = {
            "kafka": self._kafka.pid,
            "sink": self.sink.pid,
            "generator": os.getpid(),
            **{stage: self.system.pid(stage) for stage in STAGES},
        }
        parts = {name: _cpu(pid) for name, pid in pids.items()}
        return {**parts, "postgres": _tree(self._postgres.pid)}

    def memory_mb(self, stage: str) -> float:
        """Resident memory of a stage's process."""
        status = Path(f"/proc/{self.system.pid(stage)}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def states(self, webhook_id: str | None = None) -> dict[str, int]:
        """How many deliveries (of one webhook) are in which state."""
        where = "WHERE webhook_id = %s" if webhook_id else ""
        query = f"SELECT state, count(*) FROM deliveries {where} GROUP BY state"
        with psycopg.connect(self.system.env["DATABASE_URL"]) as connection:
            return dict(connection.execute(query.encode(), [webhook_id] if webhook_id else []).fetchall())

    def wait_for_states(self, wanted: dict[str, int], seconds: float, webhook_id: str | None = None) -> None:
        until(lambda: self.states(webhook_id) == wanted, seconds, f"{wanted}")

    def take(self) -> list[Receipt]:
        """What came in since the last time; all of it is kept in `receipts`."""
        new = self.sink.take()
        self.receipts += new
        return new

    def close(self) -> None:
        self.system.close()
        self.sink.close()
        self._postgres.remove()
        self._kafka.remove()
        self._folder.cleanup()

    def _acknowledged(self, error: object, _: object) -> None:
        assert error is None, error
        self.acknowledged += 1


def launched(event_id: str, account_id: str) -> bytes:
    """A `session.launched` as a producer team's own code would write it."""
    out = io.BytesIO()
    out.write(_HEADER)
    data = {"sessionId": "sess_1", "packageId": "pkg_1", "dispatchId": None, "learnerId": "learner-42"}
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


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _tree(pid: int) -> float:
    """Of a process, its children, and those of them that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / _TICKS
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _cpu(pid) + ended + sum(_cpu(int(child)) for child in children)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not less than this share of all of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(**figures: object) -> None:
    """One JSON line."""
    print(json.dumps(figures), flush=True)
