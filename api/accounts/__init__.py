"""Accounts: routes and pages."""
