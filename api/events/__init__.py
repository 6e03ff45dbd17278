"""Events: routes."""
