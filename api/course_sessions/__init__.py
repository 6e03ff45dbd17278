"""Course sessions: routes, and the commits of players."""
