"""Accept events over HTTP, and find them again."""
