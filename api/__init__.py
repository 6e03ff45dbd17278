"""The admin API: REST with JSON in camelCase and errors by RFC 9457. It calls services only."""
