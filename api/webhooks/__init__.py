"""Webhooks: routes, pages and samples of code."""
