"""Migrate a database to the schema of this release, and check its schema.

The id of a revision is its number, and then the number of the oldest schema whose release runs on it: on the tables of
`0007.0006` a process of the release before runs too. An id without the second number allows no other release.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError

from streams.adapters.sql.sqlite_file import make_private_file
from streams.core.errors import Misconfigured, Unavailable

# An advisory lock, so that only one process migrates.
_LOCK = 5_271_009
CONNECT_SECONDS = 5
_REVISION = re.compile(r"(?P<number>\d{4})(\.(?P<oldest>\d{4}))?")


class SchemaDiffers(Misconfigured):
    """This release does not run on the database's schema."""


def upgrade(url: URL, revision: str = "head") -> None:
    """Migrate up to `revision`. A second call changes nothing, nor does one of the release before the database's.

    Raises `SchemaDiffers` for the database of a release beside which this one does not run.
    """

    def verb(config: Config) -> None:
        found = _found(config.attributes["connection"])
        if _is_known(found):
            command.upgrade(config, revision)
        else:
            _require(found)

    _run(url, verb)


def grant(url: URL, role: str) -> None:
    """Let a role of PostgreSQL read and write rows, and nothing more: enough for every stage and command but this one.

    Raises `Misconfigured`.
    """
    if url.get_backend_name() != "postgresql":
        raise Misconfigured("--grant-to: only PostgreSQL has roles")
    with _connection(url) as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role}):
            raise Misconfigured(
                f"--grant-to: there is no role {role!r}; create it first: CREATE ROLE … LOGIN PASSWORD '…'"
            )
        names = connection.dialect.identifier_preparer
        schema, to = names.quote(str(connection.scalar(text("SELECT current_schema()")))), names.quote(role)
        for statement in (
            f"GRANT USAGE ON SCHEMA {schema} TO {to}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {to}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {to}",
            f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {to}",
        ):
            connection.execute(text(statement))


def downgrade(url: URL, revision: str) -> None:
    """Migrate down to `revision`. `base` removes every table."""
    _run(url, lambda config: command.downgrade(config, revision))


def autogenerate(url: URL, message: str) -> None:
    """Write a migration for the differences between the tables and the database. A tool for contributors."""
    _run(url, lambda config: command.revision(config, message, autogenerate=True))


def differences(url: URL) -> None:
    """Raises alembic's CommandError when the migrations do not produce the declared tables."""
    _run(url, command.check)


def require_schema(url: URL) -> None:
    """Raises `SchemaDiffers` unless this release runs on the database's schema."""
    with _connection(url) as connection:
        found = _found(connection)
    _require(found)


def _require(found: str | None) -> None:
    head = _scripts().get_current_head()
    if found == head or (not _is_known(found) and _runs_on(found, head)):
        return
    advice = "run `scorm-webhooks db upgrade`" if _is_known(found) else "a newer release made it: upgrade this process"
    raise SchemaDiffers(
        f"DATABASE_URL: the database's schema is {found or 'empty'}, this release needs {head}: {advice}"
    )


def _found(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_known(found: str | None) -> bool:
    return found is None or any(script.revision == found for script in _scripts().walk_revisions())


def _runs_on(found: str | None, head: str | None) -> bool:
    """Whether a release of schema `head` runs on a schema that it does not know."""
    newer, ours = _REVISION.fullmatch(found or ""), _REVISION.fullmatch(head or "")
    return bool(newer and ours and newer["oldest"] and newer["oldest"] <= ours["number"] < newer["number"])


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _run(url: URL, verb: Callable[[Config], object]) -> None:
    config = _config()
    with _connection(url) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        verb(config)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    sync = url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url
    # Behind a pooler no statement stays prepared.
    postgres = {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None}
    options = postgres if sync.get_backend_name() == "postgresql" else {}
    if sync.get_backend_name() == "sqlite":
        make_private_file(url)
    engine = create_engine(sync, hide_parameters=True, connect_args=options)
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(f"DATABASE_URL: {str(error.orig).partition(chr(10))[0]}") from error
    except DatabaseError as error:
        raise Misconfigured(f"DATABASE_URL: {str(error.orig).partition(chr(10))[0]}") from error
    finally:
        engine.dispose()
