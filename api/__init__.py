"""The admin API and dashboard."""
