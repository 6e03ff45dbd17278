"""Webhooks: where they may lead, their health, and the table of all of them."""
