"""INSERT … ON CONFLICT, for PostgreSQL and SQLite: SQLAlchemy renders this statement for the database at hand."""

from sqlalchemy.dialects.postgresql import insert

__all__ = ["insert"]
