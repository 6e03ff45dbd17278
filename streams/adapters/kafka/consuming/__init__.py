"""Consume as a member of a group."""
