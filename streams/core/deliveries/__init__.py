"""Deliveries: their attempts, retries and states."""
