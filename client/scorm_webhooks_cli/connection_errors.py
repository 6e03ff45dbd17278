"""Why a request got no response, for people."""

from urllib.parse import urlsplit

# As OpenSSL and httpcore say it.
_NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NO_CONNECTION_REASON = "All connection attempts failed"


def no_response_reason(url: str, error: Exception) -> str:
    """Why a request to this URL got no response, and what to do, as the end of a sentence."""
    import httpx2

    reason = str(error) or type(error).__name__
    parts = urlsplit(url)
    if parts.scheme == "https" and any(text in reason for text in _NO_TLS_REASONS):
        return f"the server there speaks http, not https: use http://{parts.netloc}"
    if parts.scheme == "http" and isinstance(error, (httpx2.ReadError, httpx2.RemoteProtocolError)):
        return f"the server closed the connection: if it expects https, use https://{parts.netloc}"
    if reason == _NO_CONNECTION_REASON:
        return "nothing accepts connections there: does the server run, and on this port?"
    return reason
