"""The tables of this release in an empty database."""

import shutil
import tempfile
from functools import cache

import psycopg
from sqlalchemy.engine import URL

from real.postgres import ROLE
from streams.adapters.sql.engine import migrate
from streams.adapters.sql.engine.database import database_url

_FOLDER = tempfile.TemporaryDirectory()
# The database of a server that the others are copied from.
_TEMPLATE = "migrated"


def make_tables(place: URL) -> None:
    """Migrate it; on PostgreSQL with the rights of `ROLE`. It is replaced by a copy, which is faster."""
    if place.get_backend_name() == "sqlite":
        shutil.copyfile(_migrated(), str(place.database))
    else:
        _copy_template(place)


@cache
def _migrated() -> str:
    path = f"{_FOLDER.name}/db.sqlite"
    migrate.upgrade(database_url(f"sqlite:///{path}"))
    return path


def _copy_template(place: URL) -> None:
    """Nobody may be connected to it. The first database of a server is migrated, and becomes the template."""
    server = f"host={place.host} port={place.port} user={place.username} dbname=postgres"
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone():
            connection.execute(f"DROP DATABASE {place.database}".encode())
            connection.execute(f"CREATE DATABASE {place.database} TEMPLATE {_TEMPLATE}".encode())
            return
        migrate.upgrade(place)
        migrate.grant(place, ROLE)
        connection.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE {place.database}".encode())
