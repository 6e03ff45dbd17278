"""Avro: record values as single-object encoding or in Confluent's framing."""
