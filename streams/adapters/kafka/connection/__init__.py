"""How every client connects: properties, credentials, errors."""
