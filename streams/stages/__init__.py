"""The stages: each moves a record one step along the path. They know core and ports only."""
