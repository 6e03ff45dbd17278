"""Topics, and how far groups have come."""
