"""The models of requests and responses: JSON in camelCase; absent values are left out."""
