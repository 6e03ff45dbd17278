"""Find, retry and discard deliveries."""
