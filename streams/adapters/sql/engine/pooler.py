"""A pooler in transaction mode, such as PgBouncer: each transaction may run in another session of PostgreSQL.

The pooler opens sessions, so settings of a connection must be set on the role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from streams.adapters.driver_queries import connect_options, libpq_url
from streams.core.errors import Misconfigured, Unavailable

# Without sorts, estimates are so high that PostgreSQL compiled short queries. In a zone other than UTC, Python cannot
# read the last hours of the year 9999.
SESSION_SETTINGS = {"jit": "off", "TimeZone": "UTC"}
# A busy pooler may give the session to another client between two checks.
_SESSION_CHECKS = 3

_SELECT_STORED_SETTINGS = """
    SELECT unnest(setconfig) FROM pg_db_role_setting
    LEFT JOIN pg_database ON pg_database.oid = setdatabase LEFT JOIN pg_roles ON pg_roles.oid = setrole
    WHERE coalesce(datname, current_database()) = current_database() AND coalesce(rolname, %s) = %s
"""


class SessionsDiffer(Misconfigured):
    """The sessions of the pooler do not begin with the required settings."""


def store_session_settings(url: URL, role: str | None = None) -> None:
    """Let each session of a role, or of this URL's own role, begin with the required settings. A second call changes
    nothing.

    Raises `Unavailable`, and `Misconfigured` with the commands to run if the role is not permitted to do this.
    """
    if url.get_backend_name() != "postgresql":
        return
    with _connection(url) as connection:
        [(database, user)] = connection.execute("SELECT current_database(), current_user").fetchall()
        role = role or user
        stored_settings = {setting for (setting,) in connection.execute(_SELECT_STORED_SETTINGS, (role, role))}
        commands = [
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                sql.Identifier(role), sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
            )
            for name, value in SESSION_SETTINGS.items()
            if f"{name}={value}" not in stored_settings
        ]
        try:
            for command in commands:
                connection.execute(command)
        except psycopg.errors.InsufficientPrivilege:
            assignments = "; ".join(command.as_string(connection) for command in commands)
            raise Misconfigured(
                f"DATABASE_URL: {user} may not change {role}; run as {role} or a superuser: {assignments}"
            ) from None


def check_pooler_setting(url: URL, behind_pooler: bool) -> None:
    """Check that SCORM_WEBHOOKS_DATABASE_POOLER is right, and that the pooler's sessions begin with the required
    settings.

    Raises `Misconfigured`, `SessionsDiffer` for problems that `db upgrade` corrects, and `Unavailable`.
    """
    if url.get_backend_name() != "postgresql":
        return
    if not behind_pooler:
        if _shares_sessions(url):
            raise Misconfigured(
                "DATABASE_URL leads to a pooler in transaction mode: set SCORM_WEBHOOKS_DATABASE_POOLER=transaction"
            )
        return
    with _connection(url) as connection:
        for name, value in SESSION_SETTINGS.items():
            [(setting,)] = connection.execute("SELECT current_setting(%s)", (name,)).fetchall()
            if setting != value:
                raise SessionsDiffer(
                    f"DATABASE_URL: the pooler's sessions begin with {name}={setting}, not {value}: run "
                    "`scorm-webhooks db upgrade` with SCORM_WEBHOOKS_DATABASE_POOLER=transaction, "
                    "then RECONNECT on PgBouncer's console"
                )


def _shares_sessions(url: URL) -> bool:
    """Whether two open connections use the same session, as in transaction mode."""
    with _connection(url) as first:
        # A pooler does not tell its clients the process number of PostgreSQL.
        if _session_pid(first) == first.info.backend_pid:
            return False
        with _connection(url) as second:
            # Used one after the other, two connections could get two sessions in turn.
            first_pids, second_pids = (
                {_session_pid(connection) for _ in range(_SESSION_CHECKS)} for connection in (first, second)
            )
            return len(first_pids) > 1 or len(second_pids) > 1 or first_pids == second_pids


def _session_pid(connection: psycopg.Connection[Any]) -> int:
    [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
    return int(pid)


@contextmanager
def _connection(url: URL) -> Iterator[psycopg.Connection[Any]]:
    address = libpq_url(url.render_as_string(hide_password=False))
    try:
        options = connect_options(url.query, behind_pooler=True)
        with psycopg.connect(address, autocommit=True, **options) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise Unavailable(f"DATABASE_URL: {str(error).partition(chr(10))[0]}") from error
    except psycopg.Error as error:
        raise Misconfigured(f"DATABASE_URL: {str(error).partition(chr(10))[0]}") from error
