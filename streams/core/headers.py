"""Names of HTTP headers that a webhook may not set."""

# They decide where a request ends, or concern one connection and not the request (RFC 9110 §7.6.1).
_OF_A_CONNECTION = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def is_connection_header(name: str) -> bool:
    """Whether a header belongs to the connection; no customer sets it, whatever its case."""
    lower = name.lower()
    return lower in _OF_A_CONNECTION or lower.startswith("proxy-")
