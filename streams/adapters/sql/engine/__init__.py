"""Connections, transactions and the schema, for PostgreSQL and SQLite."""
