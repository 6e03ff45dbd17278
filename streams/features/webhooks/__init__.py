"""Register, change, test and watch webhooks."""
