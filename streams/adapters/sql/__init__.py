"""The ports of storage on PostgreSQL and SQLite, by SQLAlchemy Core."""
