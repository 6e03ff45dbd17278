"""Deliveries that readers pull."""
