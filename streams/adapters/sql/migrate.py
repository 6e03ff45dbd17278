"""Migrate a database to the schema of this version, and check its version."""

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


class SchemaDiffers(Misconfigured):
    """The database has another schema than this version."""


def upgrade(url: URL, revision: str = "head") -> None:
    """Migrate up to `revision`. A second call changes nothing."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: URL, revision: str) -> None:
    """Migrate down to `revision`. `base` removes every table."""
    _run(url, lambda config: command.downgrade(config, revision))


def autogenerate(url: URL, message: str) -> None:
    """Write a migration for the differences between the tables and the database. A tool for contributors."""
    _run(url, lambda config: command.revision(config, message, autogenerate=True))


def differences(url: URL) -> None:
    """Raises alembic's CommandError when the migrations do not produce the declared tables."""
    _run(url, command.check)


def require_head(url: URL) -> None:
    """Raises `SchemaDiffers` unless the database has this version's schema."""
    scripts = ScriptDirectory.from_config(_config())
    wanted = scripts.get_current_head()
    with _connection(url) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found == wanted:
        return
    is_known = found is None or any(script.revision == found for script in scripts.walk_revisions())
    advice = "run `scorm-webhooks db upgrade`" if is_known else "it belongs to a newer release: upgrade this process"
    raise SchemaDiffers(
        f"DATABASE_URL: the database's schema is {found or 'empty'}, this version needs {wanted}: {advice}"
    )


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
    options = {"connect_timeout": CONNECT_SECONDS} if sync.get_backend_name() == "postgresql" else {}
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
