"""The routes, by what they are about; each names the permission that it needs."""
