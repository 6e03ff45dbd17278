"""Names of HTTP headers that a webhook may not set."""

# They decide where a request ends, or concern one connection and not the request (RFC 9110 §7.6.1).
_CONNECTION_HEADERS = frozenset(
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
    """Whether a header belongs to the connection, in any case; a webhook may not set it."""
    lower_name = name.lower()
    return lower_name in _CONNECTION_HEADERS or lower_name.startswith("proxy-")


def is_fixed_header(name: str) -> bool:
    """Whether every request has the header already, or it describes the body; a webhook may not replace it."""
    lower_name = name.lower()
    is_fixed = lower_name in ("accept", "accept-encoding", "authorization", "traceparent", "user-agent")
    return is_fixed or lower_name.startswith(("content-", "webhook-")) or is_connection_header(name)
