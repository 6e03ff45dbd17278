"""The contract of SQL through PgBouncer in transaction mode, and what fails there without the setting."""

import asyncio
from types import ModuleType

import psycopg
import pytest
from sqlalchemy.engine import URL

from contract import test_lease, test_recorder
from real.pgbouncer import PgBouncer
from real.postgres import ROLE
from streams.adapters.driver_queries import PostgresQueries, libpq_url
from streams.adapters.sql.engine import migrate
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.database import database_url as url_of
from streams.adapters.sql.engine.pooler import SessionsDiffer, check_pooler_setting, store_session_settings
from streams.core.errors import Misconfigured, Unavailable

# More than psycopg runs before it prepares a statement, in each of the pooler's sessions.
MANY = 20


@pytest.fixture
def place(postgresql: str) -> URL:
    return url_of(postgresql)


@pytest.fixture
def database_url(postgresql: str) -> str:
    return postgresql


@pytest.fixture
def pooler(pgbouncer: PgBouncer) -> PgBouncer:
    return pgbouncer


def _tests_of(suite: ModuleType) -> dict[str, object]:
    return {name: test for name, test in vars(suite).items() if name.startswith("test_") and callable(test)}


# The tests of these files, with the fixtures of this one.
for suite in (test_recorder, test_lease):
    globals().update(_tests_of(suite))


async def many_queries(url: URL, *, behind_pooler: bool) -> None:
    """Run the same query often, by both ways to the database, while another client uses the pooler too."""
    database, other = (Database(url, behind_pooler=behind_pooler) for _ in range(2))
    address = libpq_url(url.render_as_string(hide_password=False))
    queries = PostgresQueries(address, behind_pooler)
    try:
        for _ in range(MANY):
            await asyncio.gather(database.ping(), other.ping(), queries.rows("SELECT 1"))
    finally:
        for closing in (database, other, queries):
            await closing.close()


async def test_any_session_answers_any_query(place: URL, pooler: PgBouncer) -> None:
    await many_queries(pooler.before(place), behind_pooler=True)


async def test_without_the_setting_queries_fail(place: URL, pooler: PgBouncer) -> None:
    with pytest.raises((Unavailable, psycopg.Error), match="prepared statement"):
        await many_queries(pooler.before(place), behind_pooler=False)


def test_a_pooler_that_is_not_set_is_named(place: URL, pooler: PgBouncer) -> None:
    check_pooler_setting(place, behind_pooler=False)
    with pytest.raises(Misconfigured, match=r"^DATABASE_URL leads to .*: set SCORM_WEBHOOKS_DATABASE_POOLER=transacti"):
        check_pooler_setting(pooler.before(place), behind_pooler=False)


def test_sessions_begin_with_the_settings_of_an_upgrade(place: URL, pooler: PgBouncer) -> None:
    url = pooler.before(place)
    migrate.upgrade(url)
    with pytest.raises(SessionsDiffer, match=r"begin with jit=on, not off: run `scorm-webhooks db upgrade`"):
        check_pooler_setting(url, behind_pooler=True)
    store_session_settings(url)
    pooler.reconnect()
    check_pooler_setting(url, behind_pooler=True)


def test_a_role_that_may_not_says_what_to_run(place: URL) -> None:
    role = place.set(username=ROLE)
    with pytest.raises(
        Misconfigured, match=r'run as postgres or a superuser: ALTER ROLE "postgres" IN DATABASE ".*" SET "jit" = \'off'
    ):
        store_session_settings(role, "postgres")
    store_session_settings(place, "postgres")
    store_session_settings(role, "postgres")
