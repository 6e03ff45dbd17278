"""Deliveries: their attempts, their retries, and what becomes of them."""
