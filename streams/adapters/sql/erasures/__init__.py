"""Erase learners from rows, and list the erasures to publish."""
