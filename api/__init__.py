"""The admin API: REST with JSON in camelCase, errors by RFC 9457; it talks to services alone."""
