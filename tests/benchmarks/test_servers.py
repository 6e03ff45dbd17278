"""Servers of experiments have production settings; servers of tests are fast."""

from collections.abc import Iterator

import pytest

import bench.stack  # noqa: F401
import parts
import real.kafka
from bench.servers import postgres_settings, production_postgres
from conftest import left_out
from real.postgres import FAST, Postgres


@pytest.fixture
def server() -> Iterator[Postgres]:
    if not parts.postgres():
        left_out("PostgreSQL")
    server = production_postgres()
    try:
        yield server
    finally:
        server.remove()


@pytest.mark.real
def test_the_database_of_experiments_is_durable(server: Postgres) -> None:
    durable = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    assert durable.items() <= postgres_settings(server.url()).items()


def test_the_database_of_tests_is_not_durable() -> None:
    assert FAST["fsync"] == "off"


def test_bench_does_not_change_the_broker_of_tests() -> None:
    assert "-Xmx256m" in real.kafka.LIGHT
    assert "num.io.threads" not in real.kafka.PROPERTIES
