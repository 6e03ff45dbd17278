"""Topics, and the progress of consumer groups."""
