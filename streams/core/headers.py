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
    """Whether a header belongs to the connection, in any case; a webhook may not set it."""
    lower = name.lower()
    return lower in _OF_A_CONNECTION or lower.startswith("proxy-")


def is_fixed_header(name: str) -> bool:
    """Whether every request has the header already, or it describes the body; a webhook may not replace it."""
    lower = name.lower()
    is_fixed = lower in ("accept", "accept-encoding", "authorization", "traceparent", "user-agent")
    return is_fixed or lower.startswith(("content-", "webhook-")) or is_connection_header(name)
