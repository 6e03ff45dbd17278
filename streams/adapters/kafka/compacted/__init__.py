"""Read the compacted topics `subscriptions` and `erasures` as tables."""
