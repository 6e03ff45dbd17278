"""Pull webhooks: their readers pull deliveries, and acknowledge them or give them back."""
