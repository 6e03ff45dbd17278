"""Events, their fields, and which webhooks want them."""
