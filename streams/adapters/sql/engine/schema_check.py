"""Check that a database has the schema of this release. This avoids alembic, which takes 7 MB in each process."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError

from streams.adapters.sql.engine.sqlite_file import make_private_file
from streams.core.errors import Misconfigured, Unavailable

MIGRATIONS = Path(__file__).parents[1] / "migrations"
CONNECT_TIMEOUT_SECONDS = 5
_REVISION = re.compile(r"(?P<number>\d{4})(\.(?P<oldest>\d{4}))?")
_DECLARED_REVISION = re.compile(r'^revision = "([\d.]+)"$', re.MULTILINE)


class SchemaDiffers(Misconfigured):
    """This release does not run on the database's schema."""


def require_schema(url: URL) -> None:
    """Raise `SchemaDiffers` unless this release runs on the database's schema."""
    with connection_to(url) as connection:
        revision = stored_revision(connection)
    require_revision(revision)


def require_revision(revision: str | None) -> None:
    """Raise `SchemaDiffers` unless this release runs on the schema of this revision; None is an empty database."""
    head = revisions()[-1]
    if revision == head or (not is_known(revision) and _runs_on(revision, head)):
        return
    advice = (
        "run `scorm-webhooks db upgrade`" if is_known(revision) else "a newer release made it: upgrade this process"
    )
    raise SchemaDiffers(
        f"DATABASE_URL: the database's schema is {revision or 'empty'}, this release needs {head}: {advice}"
    )


def stored_revision(connection: Connection) -> str | None:
    """The revision that alembic stored; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def is_known(revision: str | None) -> bool:
    """Whether this release has the migration of a revision."""
    return revision is None or revision in revisions()


@cache
def revisions() -> tuple[str, ...]:
    """The revisions of this release, oldest first. Their files are numbered."""
    files = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
    return tuple(revision for file in files for revision in _DECLARED_REVISION.findall(file.read_text()))


@contextmanager
def connection_to(url: URL) -> Iterator[Connection]:
    """One transaction of a database. Raises `Unavailable` and `Misconfigured`."""
    sync_url = url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url
    # Behind a pooler no statement stays prepared.
    postgres_options = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "prepare_threshold": None}
    options = postgres_options if sync_url.get_backend_name() == "postgresql" else {}
    if sync_url.get_backend_name() == "sqlite":
        make_private_file(url)
    engine = create_engine(sync_url, hide_parameters=True, connect_args=options)
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError) as error:
        raise Unavailable(f"DATABASE_URL: {str(error.orig).partition(chr(10))[0]}") from error
    except DatabaseError as error:
        raise Misconfigured(f"DATABASE_URL: {str(error.orig).partition(chr(10))[0]}") from error
    finally:
        engine.dispose()


def _runs_on(revision: str | None, head: str) -> bool:
    """Whether a release of schema `head` runs on a schema that it does not know."""
    newer_revision, own_revision = _REVISION.fullmatch(revision or ""), _REVISION.fullmatch(head)
    return bool(
        newer_revision
        and own_revision
        and newer_revision["oldest"]
        and newer_revision["oldest"] <= own_revision["number"] < newer_revision["number"]
    )
