"""Erase learners."""
