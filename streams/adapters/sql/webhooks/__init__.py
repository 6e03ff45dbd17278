"""Store webhooks and their health, and tell the topic of changes."""
