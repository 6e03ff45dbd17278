"""OpenID Connect, by Authlib."""
