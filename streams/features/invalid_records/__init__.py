"""Invalid records: list them, and publish them again."""
