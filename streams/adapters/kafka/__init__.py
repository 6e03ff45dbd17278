"""Kafka by librdkafka: reading, producing and committing, and how its clients are configured."""
