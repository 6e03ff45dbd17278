"""Replays and jobs: routes and pages."""
