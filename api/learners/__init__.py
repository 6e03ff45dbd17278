"""Erasure of learners: routes and pages."""
