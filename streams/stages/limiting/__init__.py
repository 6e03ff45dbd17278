"""Limit requests in flight per endpoint."""
