"""Accept events by HTTP, and find them again."""
