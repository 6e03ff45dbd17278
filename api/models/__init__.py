"""What requests and answers look like: JSON in camelCase; absent values are left out."""
