"""Deliveries: routes and pages."""
