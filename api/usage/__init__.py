"""Usage: routes and pages."""
