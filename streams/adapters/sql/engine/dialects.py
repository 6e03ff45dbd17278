"""The common parts of PostgreSQL and SQLite, and how to tell which one is used."""

# SQLAlchemy renders this ON CONFLICT for either database.
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["insert", "is_sqlite"]


def is_sqlite(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "sqlite"
