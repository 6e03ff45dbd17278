"""Erase learners from rows, and tell the topic of erasures."""
