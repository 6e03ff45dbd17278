"""Which headers a webhook may not set."""

import pytest

from streams.core.webhooks.headers import is_connection_header


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Expect",
        "TE",
        "Trailer",
        "Upgrade",
        "Keep-Alive",
        "connection",
        "Content-Length",
        "Transfer-Encoding",
        "Proxy-Authorization",
        "proxy-connection",
        "HTTP2-Settings",
    ],
)
def test_a_connection_header_is_reserved(name: str) -> None:
    assert is_connection_header(name)


@pytest.mark.parametrize("name", ["Authorization", "X-Proxy-Id", "Accept", "X-Keep-Alive"])
def test_other_headers_are_not_reserved(name: str) -> None:
    assert not is_connection_header(name)
