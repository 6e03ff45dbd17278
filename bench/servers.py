"""Kafka and PostgreSQL with production settings, and a record of these settings."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence

import psycopg

import parts
from bench.environment import ROOT
from real.kafka import LIGHT, Kafka
from real.postgres import PRODUCTION, Postgres

# Database settings in a result, beside those of PRODUCTION.
_SHOWN = ("shared_buffers", "max_wal_size")
# The requests that an event may cost; the broker counts each fetch a second time by who sent it.
_REQUESTS = ("Fetch", "Produce", "OffsetCommit", "ListOffsets")
_COUNTED_TWICE = ("FetchConsumer", "FetchFollower")
# More threads would only share two cores.
_THREADS = "num.network.threads=1\nnum.io.threads=2\n"


class ProductionKafka(Kafka):
    """One broker with the heap and the garbage collector of Kafka's own start script.

    The young generation has a fixed size: on a busy machine the collector shrinks it, and the broker pauses
    for 50 ms every 0.7 s.
    """

    java_options: Sequence[str] = (
        *("-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-Xmn600m", "-XX:+AlwaysPreTouch"),
        *(option for option in LIGHT if option.startswith("-Xlog")),
    )

    def _properties(self, port: int, controller: int) -> str:
        return super()._properties(port, controller) + _THREADS

    def requests(self) -> dict[str, int]:
        """The requests that it has answered so far, by kind. Needs a second, and a JDK beside it."""
        compiler = parts.java_compiler()
        assert compiler, "run tests/parts.py to install a JDK"
        java = compiler.resolve().with_name("java")
        command = [str(java), str(ROOT / "bench" / "Requests.java"), str(self.pid)]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
        counts: dict[str, int] = json.loads(said)
        others = sum(count for kind, count in counts.items() if kind not in (*_REQUESTS, *_COUNTED_TWICE))
        return {**{kind: counts.get(kind, 0) for kind in _REQUESTS}, "others": others}


def production_postgres() -> Postgres:
    """A new durable server: a power failure loses no committed transaction."""
    return Postgres(PRODUCTION)


def postgres_settings(url: str) -> dict[str, str]:
    """The version and settings that the server reports."""
    names = {"version": "server_version", **{name: name for name in (*PRODUCTION, *_SHOWN)}}
    with psycopg.connect(url) as connection:
        shown = {key: connection.execute(f"SHOW {name}".encode()).fetchone() for key, name in names.items()}
    return {key: str(row[0]).split()[0] for key, row in shown.items() if row}


def kafka_settings() -> Mapping[str, object]:
    """The broker's version, Java and Java options."""
    jars, java = parts.kafka(), parts.java()
    assert jars, "run tests/parts.py to install Kafka"
    assert java, "run tests/parts.py to install Java"
    versions = [re.fullmatch(r"kafka_2\.13-([\d.]+)\.jar", jar.name) for jar in jars.iterdir()]
    return {
        "version": next(found[1] for found in versions if found),
        "java": parts.java_version(java),
        "java_options": " ".join(ProductionKafka.java_options[:-2]),
        "brokers": 1,
    }
