"""Kafka by librdkafka: consumers, the producer, administration, and their configuration."""
