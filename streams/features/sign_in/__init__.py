"""Sign-in to the dashboard: links, codes, OpenID Connect, and the sessions of browsers."""
