"""What stages and services need from outside: protocols of a few methods."""
