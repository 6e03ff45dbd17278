"""Produce until each record is acknowledged."""
