"""Store webhooks and their health, and list the changes to publish."""
