"""Count launches, and watch the limit of a plan."""
