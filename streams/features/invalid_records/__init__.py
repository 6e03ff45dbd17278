"""Records that could not be handled: list them, and publish them again."""
