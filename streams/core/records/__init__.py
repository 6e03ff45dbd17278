"""Records of topics: checks, invalid ones, offsets, and compacted topics."""
