"""A scenario is settled when its deliveries are final and nothing will change them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from chaos.settled import is_settled
from real.postgres import Postgres

TABLES = """
    CREATE TABLE deliveries (event_id text, webhook_id text, state text, pause_id text);
    CREATE TABLE webhooks (id text, status text);
    CREATE TABLE pauses (id text, choice text);
    CREATE TABLE jobs (finished_at timestamptz);
    INSERT INTO webhooks VALUES ('active', 'active'), ('paused', 'paused');
    INSERT INTO pauses VALUES ('ended', 'deliver'), ('open', NULL);
"""


@pytest.fixture
def connection(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(TABLES.encode())
        yield connection


def has_delivery(connection: psycopg.Connection, state: str, webhook: str = "active", pause: str | None = None) -> None:
    query = "INSERT INTO deliveries VALUES ('run:1', %s, %s, %s)"
    connection.execute(query, [webhook, state, pause])


@pytest.mark.parametrize("state", ["delivered", "dead", "discarded"])
def test_a_final_state_is_settled(connection: psycopg.Connection, state: str) -> None:
    has_delivery(connection, state)
    assert is_settled(connection, "run", 1)


def test_a_waiting_or_missing_delivery_is_not_settled(connection: psycopg.Connection) -> None:
    has_delivery(connection, "delivered")
    assert not is_settled(connection, "run", 2)
    has_delivery(connection, "waiting")
    assert not is_settled(connection, "run", 2)


def test_events_of_another_scenario_do_not_matter(connection: psycopg.Connection) -> None:
    has_delivery(connection, "waiting")
    assert is_settled(connection, "other", 0)


@pytest.mark.parametrize(
    ("webhook", "pause", "settled"),
    [
        ("paused", "open", True),
        ("paused", "ended", True),
        ("active", "open", True),
        ("active", "ended", False),
        ("active", None, False),
    ],
)
def test_held_is_settled_unless_it_will_be_released(
    connection: psycopg.Connection, webhook: str, pause: str | None, settled: bool
) -> None:
    has_delivery(connection, "held", webhook, pause)
    assert is_settled(connection, "run", 1) == settled


def test_nothing_is_settled_while_a_job_runs(connection: psycopg.Connection) -> None:
    has_delivery(connection, "dead")
    connection.execute("INSERT INTO jobs VALUES (NULL)")
    assert not is_settled(connection, "run", 1)
    connection.execute("UPDATE jobs SET finished_at = now()")
    assert is_settled(connection, "run", 1)


class ReleasingConnection:
    """A connection that releases held deliveries after each query."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, params: dict[str, Any]) -> Any:
        found = self._connection.execute(query.encode(), params)
        self._connection.execute("UPDATE deliveries SET state = 'waiting' WHERE state = 'held'")
        return found


def test_a_release_after_the_query_is_not_missed(connection: psycopg.Connection) -> None:
    has_delivery(connection, "held", "active", "ended")
    assert not is_settled(ReleasingConnection(connection), "run", 1)
