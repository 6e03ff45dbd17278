"""Migrate a database to the schema of this release.

The id of a revision is its number, then the number of the oldest schema whose release runs on it. For example, the
release before also runs on the tables of `0007.0006`. An id without the second number allows no other release.
"""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import URL

from streams.adapters.sql.engine.schema_check import (
    MIGRATIONS,
    connection_to,
    is_known,
    require_revision,
    stored_revision,
)
from streams.core.errors import Misconfigured

# An advisory lock, so that only one process migrates.
_LOCK_KEY = 5_271_009


def upgrade(url: URL, revision: str = "head") -> None:
    """Migrate up to `revision`. A second call changes nothing, nor does a call by the release before the database's.

    Raises `SchemaDiffers` if the database belongs to a release that this one cannot run beside.
    """

    def upgrade_schema(config: Config) -> None:
        old_revision = stored_revision(config.attributes["connection"])
        if is_known(old_revision):
            command.upgrade(config, revision)
        else:
            require_revision(old_revision)

    run_command(url, upgrade_schema)


def grant(url: URL, role: str) -> None:
    """Let a PostgreSQL role only read and write rows, which is enough for every stage and command except this one.

    Raises `Misconfigured`.
    """
    if url.get_backend_name() != "postgresql":
        raise Misconfigured("--grant-to: only PostgreSQL has roles")
    with connection_to(url) as connection:
        if not connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role}):
            raise Misconfigured(
                f"--grant-to: there is no role {role!r}; create it first: CREATE ROLE … LOGIN PASSWORD '…'"
            )
        names = connection.dialect.identifier_preparer
        schema, grantee = names.quote(str(connection.scalar(text("SELECT current_schema()")))), names.quote(role)
        for statement in (
            f"GRANT USAGE ON SCHEMA {schema} TO {grantee}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {grantee}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {grantee}",
            f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {grantee}",
        ):
            connection.execute(text(statement))


def downgrade(url: URL, revision: str) -> None:
    """Migrate down to `revision`. `base` removes every table."""
    run_command(url, lambda config: command.downgrade(config, revision))


def check_migrations(url: URL) -> None:
    """Raise alembic's CommandError if the migrations do not produce the declared tables."""
    run_command(url, command.check)


def run_command(url: URL, command_function: Callable[[Config], object]) -> None:
    """Run an alembic command on the database, one process at a time."""
    config = _config()
    with connection_to(url) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config.attributes["connection"] = connection
        command_function(config)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
