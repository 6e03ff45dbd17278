"""Dumps of the database, as files of PostgreSQL or SQLite."""
