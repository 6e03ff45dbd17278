"""Which URLs may be registered, and the messages for the others."""

import pytest

from streams.core.limits import MAX_URL_CHARACTERS
from streams.core.webhooks.url import url_errors

GOOD = [
    "https://example.com",
    "https://example.com/",
    "https://EXAMPLE.com:8443/a/b.php?x=%2B+&sig=a%3D%3d",
    "https://example.com?token=1",
    "https://example.com:/hook",
    "https://my_host.internal.example.com./hook",
    "https://xn--bcher-kva.example/",
    "https://hooks-2.example.museum",
    "https://93.184.215.14/hook",
    "https://[2606:4700:4700::1111]:443/hook",
    "https://[::ffff:93.184.215.14]/",
    "https://1password.example.com/",
    "https://" + "a" * 63 + ".example.com/",
    "https://localhost:65535/",
]

BAD: dict[str, list[object]] = {
    "must be a URL": [None, 5, "", b"https://example.com"],
    "at most 2048 characters": ["https://example.com/" + "a" * MAX_URL_CHARACTERS],
    "plain ASCII": [
        "https://bücher.example/",
        "https://example.com/a b",
        "https://example.com/\r\nHost: internal",
        "https://example.com/\n",
        "https://exam\tple.com/",
        "https://example.com/\0",
        "https://example.com\\@127.0.0.1/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        " https://example.com/",
    ],
    "must start with https://": [
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "javascript:alert(1)",
    ],
    "user name or password": [
        "https://user:password@example.com/",
        "https://example.com@127.0.0.1/",
        "https://@example.com/",
        "https://:@example.com/",
    ],
    "fragment": ["https://example.com/#a", "https://example.com/#", "https://example.com#.internal/"],
    "is not a URL": [
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://example.com:https/",
        "https://example.com:80:80/",
        "https://[::1/",
        "https://[internal]/",
    ],
    "must name a host": [
        "https://",
        "https:///hook",
        "https://:443/",
        "https:example.com",
        "https://./",
        "https://.example.com/",
        "https://example..com/",
        "https://example.com../",
        "https://exam%70le.com/",
        "https://[::1%25lo]/",
        "https://a,b/",
        "https://" + "a" * 64 + ".com/",
        "https://" + "a." * 127 + "com/",
    ],
    "port 0": ["https://example.com:0/"],
    "four decimal numbers": [
        "https://2130706433/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://0x7f000001/",
        "https://0X7F000001/",
        "https://127.0.0.01/",
        "https://256.0.0.1/",
        "https://example.123/",
        "https://127.0.0.1./",
        "https://0x/",
    ],
}


@pytest.mark.parametrize("url", GOOD)
def test_a_valid_url_is_accepted(url: str) -> None:
    assert url_errors("url", url) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [pytest.param(url, message, id=repr(url)[:50]) for message, urls in BAD.items() for url in urls],
)
def test_an_invalid_url_gets_a_helpful_message(url: object, message: str) -> None:
    (error,) = url_errors("fallbackUrl", url)
    assert error.field == "fallbackUrl"
    assert message in error.message


def test_plain_http_needs_a_setting() -> None:
    (error,) = url_errors("url", "http://localhost:8000/")
    assert "SCORM_WEBHOOKS_ALLOW_HTTP" in error.message
    assert "`scorm-webhooks listen`" in error.message
    assert url_errors("url", "http://localhost:8000/", allow_http=True) == []
