"""Connections of every client: properties, credentials, errors."""
