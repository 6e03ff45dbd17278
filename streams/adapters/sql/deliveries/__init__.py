"""Store and read deliveries, their attempts and their events."""
