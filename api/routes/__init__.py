"""The routes by subject; each names the permission that it needs."""
