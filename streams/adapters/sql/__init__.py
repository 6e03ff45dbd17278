"""PostgreSQL and SQLite, by SQLAlchemy Core."""
