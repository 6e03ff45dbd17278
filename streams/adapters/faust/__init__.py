"""Faust, and what it needs to lose nothing."""
