"""Accounts, their API keys and their users."""
