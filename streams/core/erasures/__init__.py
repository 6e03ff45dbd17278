"""Erasures of learners, and the table of all of them."""
