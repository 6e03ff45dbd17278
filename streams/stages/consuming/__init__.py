"""Consume partitions: concurrent records, deduplication, batched writes."""
