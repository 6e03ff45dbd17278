"""A whole system under load: broker, database, stages, endpoints."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from chaos.load import Load
from chaos.settled import is_settled
from chaos.supervisor import StageSupervisor
from e2e.system import System
from real.kafka import Kafka
from real.kafka_cluster import KafkaCluster
from real.postgres import Postgres

DELAY_MS = 20
# Every rule that a webhook may have; the rate is beyond what an account has, but below a burst after an outage.
RULES = {
    "fields": ["sessionId", "packageId"],
    "ratePerSecond": 100,
    "rateBurst": 20,
    "timeoutSeconds": 5,
    "pauseAfter": {"failures": 50, "minutes": 1},
    "onGone": "delete",
    "resume": "probe",
    "auth": {"type": "basic", "username": "chaos", "password": "chaos-password"},
}


class FastSessionKafka(Kafka):
    """Short session timeouts, so that kills can follow each other quickly."""

    def _properties(self, port: int, controller: int) -> str:
        timeouts = "group.consumer.session.timeout.ms=3000\ngroup.consumer.heartbeat.interval.ms=500\n"
        return super()._properties(port, controller) + timeouts


class LoadedSystem:
    """A system for several scenarios, one after the other."""

    def __init__(
        self,
        kafka: Kafka | KafkaCluster,
        postgres: Postgres,
        prefix: str,
        python: str | Path = sys.executable,
        **settings: str,
    ) -> None:
        self.kafka, self.postgres, self.prefix = kafka, postgres, prefix
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.database_url = postgres.url()
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": self.database_url,
            "SCORM_WEBHOOKS_TOPIC_PREFIX": prefix,
            # Six times as strict as the default: no fault may be taken for a standstill.
            "SCORM_WEBHOOKS_WATCHDOG_SECONDS": "10",
            **settings,
        }
        self.system = System(self.folder, env, own_imports=True, python=python)
        self.system.prepare()
        self.supervisor = StageSupervisor(self.system, kafka.bootstrap, prefix)
        self.load = Load(self.folder, kafka.bootstrap, f"{prefix}session-events")
        self._receiver = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("receiver.py"), self.folder / "receipts", "127.0.0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._receiver.stdout
        self._port = int(self._receiver.stdout.readline())
        self.supervisor.start()
        self.supervisor.wait_until_ready()
        with ThreadPoolExecutor(2) as pool:
            first, second, third = pool.map(lambda _: self.account(), range(3))
            customers = [
                (first, "crm", f"delay={DELAY_MS}", ""),
                (first, "lms", f"delay={DELAY_MS}", "session.completed"),
                (first, "flaky", "flaky=7", ""),
                (second, "other", f"delay={DELAY_MS}", ""),
            ]
            list(pool.map(lambda customer: self.webhook(*customer), customers))
        self.webhook(third, "rules", f"delay={DELAY_MS}&flaky=11", rules=RULES)
        self.load.busy = frozenset({first, second, third})

    def account(self) -> str:
        return self.system.account()

    def webhook(
        self, account: str, path: str, behaviour: str = "", types: str = "", rules: Mapping[str, object] | None = None
    ) -> str:
        """Register a webhook; return its id. Its account must not have events yet: they would not be counted."""
        assert account not in self.load.busy
        url = f"http://127.0.0.1:{self._port}/{path}?{behaviour}"
        options = [("--events", types)] if types else []
        options += [("--set", f"{name}={json.dumps(rule)}") for name, rule in (rules or {}).items()]
        webhook: str = self.system.webhook(account, url, *(part for option in options for part in option))["id"]
        with (self.folder / "paths").open("a") as paths:
            paths.write(f"/{path} {webhook}\n")
        self.load.wants(account, webhook, types)
        return webhook

    def states(self, scenario_run: str) -> dict[str, int]:
        """Number of deliveries of the scenario's events, by state."""
        query = "SELECT state, count(*) FROM deliveries WHERE event_id LIKE %s GROUP BY state"
        try:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                return dict(connection.execute(query, [f"{scenario_run}:%"]).fetchall())
        except psycopg.OperationalError:
            return {}

    def is_settled(self, scenario_run: str) -> bool:
        """Whether all expected deliveries are in a final state for good."""
        try:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                return is_settled(connection, scenario_run, self.load.owed)
        except psycopg.OperationalError:
            return False

    def standstills(self) -> list[str]:
        """The log lines of consumers that stood still."""
        return self.logged("consumer_stands_still")

    def logged(self, event: str) -> list[str]:
        """The log lines of an event, of every process."""
        logs = [log.read_text(errors="replace").splitlines() for log in sorted(self.folder.rglob("*.log"))]
        return [line for lines in logs for line in lines if f'"{event}"' in line]

    def close(self, *, keep_folder: bool = False) -> None:
        self.load.close()
        self.supervisor.close()
        self._receiver.communicate()
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
