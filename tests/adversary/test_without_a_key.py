"""A client without a key sends anything to the API: it stays available, and customers are not affected."""

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest

from adversary.raw_http import connected, exchange, read_all, send_repeatedly, status
from adversary.system import API_CONNECTIONS, AdversarySystem
from e2e.system import until

pytestmark = pytest.mark.e2e

HOST = b"Host: api.example.com\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
MEBIBYTE = 1024 * 1024
HALF_REQUESTS = {
    "silent": b"",
    "half a request line": b"GET /heal",
    "half the headers": b"GET /healthz HTTP/1.1\r\nHost: api",
    "half a body": b"POST /v1/webhooks HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 1000\r\n\r\n{",
    "half a chunk": b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{",
}


@pytest.fixture(autouse=True)
def api_responds_afterwards(attacked: AdversarySystem) -> Iterator[None]:
    yield
    until(attacked.is_api_alive, 10, "the API responds after the test")


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"X-Header: value\r\n", b"x" * 16], ids=["many lines", "one line"])
def test_64_mib_of_headers_get_431(attacked: AdversarySystem, line: bytes) -> None:
    with connected(attacked.api_port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST)
        send_repeatedly(client, line * 4096, 64 * MEBIBYTE)
        assert status(read_all(client)) == 431


def test_a_body_without_a_key_is_not_read(attacked: AdversarySystem) -> None:
    with connected(attacked.api_port) as client:
        client.sendall(b"POST /v1/events HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % (64 * MEBIBYTE))
        send_repeatedly(client, b"[" * MEBIBYTE, 64 * MEBIBYTE)
        assert status(read_all(client)) in (401, 413)


def test_deep_json_without_a_key_gets_401(attacked: AdversarySystem) -> None:
    deep = b"[" * 500_000
    head = b"POST /v1/webhooks HTTP/1.1\r\n" + HOST + JSON + CLOSE
    assert status(exchange(attacked.api_port, head + b"Content-Length: %d\r\n\r\n" % len(deep) + deep)) == 401


# -- time and number -----------------------------------------------------------------------------------------------


def test_partial_requests_do_not_block_the_api(attacked: AdversarySystem) -> None:
    """They use every connection of the API. A new one closes the one that waits longest."""
    with contextlib.ExitStack() as held:
        for number in range(2 * API_CONNECTIONS):
            client = held.enter_context(connected(attacked.api_port))
            with contextlib.suppress(ConnectionError):
                client.sendall(list(HALF_REQUESTS.values())[number % len(HALF_REQUESTS)])
        for _ in range(20):
            assert attacked.is_api_alive()
        attacked.assert_other_account_is_served()


def test_slow_readers_do_not_block_the_api(attacked: AdversarySystem) -> None:
    request = b"GET /docs/api/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST + b"\r\n"
    with contextlib.ExitStack() as held:
        for _ in range(API_CONNECTIONS + 50):
            client = held.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", attacked.api_port))
            client.sendall(request * 5)
        # As soon as their buffers are full.
        until(attacked.is_api_alive, 45, "the API responds while clients do not read")
        attacked.assert_other_account_is_served()


def test_pipelined_requests_are_limited(attacked: AdversarySystem) -> None:
    response = exchange(attacked.api_port, (b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n") * 2000)
    assert 1 <= response.count(b"HTTP/1.1 200") <= 11


def test_500_wrong_keys_get_401(attacked: AdversarySystem) -> None:
    shapes = ["sk_%d", "%d", "sk_' OR 1=1 -- %d", "operator-%d", "%d" + "k" * 8000, "Basic %d", "\xff%d"]
    client = http.client.HTTPConnection("127.0.0.1", attacked.api_port, timeout=20)
    statuses = set()
    for number in range(500):
        token = shapes[number % len(shapes)] % number
        client.request("GET", "/v1/webhooks", headers={"Authorization": f"Bearer {token}"})
        with client.getresponse() as response:
            response.read()
            statuses.add(response.status)
    client.close()
    assert statuses == {401}
    assert attacked.call("GET", "/v1/webhooks", key=attacked.attacker.key).status == 200


# -- malformed HTTP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"",
        HOST * 2,
        b"Host: a\r\nHost: b\r\n",
        b"Host: a, b\r\n",
        b"Host: a\r\nHost : b\r\n",
        HOST + b"Content-Length: -1\r\n",
        HOST + b"Content-Length: 1" + b"0" * 30 + b"\r\n",
        HOST + b"Content-Length: 18446744073709551617\r\n",
        HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        HOST + b"Content-Length: 5, 5\r\n",
        HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        HOST + b"Transfer-Encoding: chunked, identity\r\n",
        HOST + b"Transfer-Encoding : chunked\r\n",
        HOST + b"X: a\rX: b\r\n",
        HOST + b"\x00: a\r\n",
    ],
)
def test_a_request_without_a_clear_end_gets_400(attacked: AdversarySystem, head: bytes) -> None:
    response = exchange(
        attacked.api_port, b"POST /v1/events HTTP/1.1\r\n" + head + b"\r\nhello" + b"GET / HTTP/1.1\r\n\r\n"
    )
    assert status(response) == 400
    assert response.count(b"HTTP/1.1 ") == 1


def test_a_key_in_a_trailer_gets_401(attacked: AdversarySystem) -> None:
    head = b"POST /v1/webhooks HTTP/1.1\r\n" + HOST + JSON + CLOSE + b"Transfer-Encoding: chunked\r\n"
    trailer = b"Authorization: Bearer %b\r\n" % attacked.attacker.key.encode()
    assert status(exchange(attacked.api_port, head + b"\r\n2\r\n{}\r\n0\r\n" + trailer + b"\r\n")) == 401


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /\xff\xfe HTTP/1.1", 400),
        (b"GET /\x1b[2J HTTP/1.1", 400),
        (b"get /healthz HTTP/1.1", 400),
        (b"G\xcbT /healthz HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"GET /healthz HTTP/9.9", 400),
        (b"CONNECT 169.254.169.254:80 HTTP/1.1", 400),
        (b"TRACE /healthz HTTP/1.1", 405),
        (b"DELETE /healthz HTTP/1.1", 405),
        (b"PROPFIND /v1/webhooks HTTP/1.1", 405),
        (b"GET /%00 HTTP/1.1", 404),
        (b"GET /%ff%fe HTTP/1.1", 404),
        (b"GET /v1/%2e%2e/%2e%2e/etc/passwd HTTP/1.1", 404),
        (b"GET /docs/api/../../../../etc/passwd HTTP/1.1", 404),
        (b"GET /docs/api/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1", 404),
        (b"GET //169.254.169.254/latest HTTP/1.1", 404),
        (b"GET http://169.254.169.254/latest HTTP/1.1", 404),
        pytest.param(b"GET /" + b"a" * 60_000 + b" HTTP/1.1", 404, id="a long path"),
        (b"GET /v1/webhooks/%0d%0aX-Injected:%20yes HTTP/1.1", 401),
        pytest.param(b"GET /v1/deliveries?" + b"a=1&" * 10_000 + b" HTTP/1.1", 401, id="a long query"),
    ],
)
def test_an_invalid_request_line_gets_an_error(attacked: AdversarySystem, request_line: bytes, expected: int) -> None:
    response = exchange(attacked.api_port, request_line + b"\r\n" + HOST + CLOSE + b"\r\n")
    assert status(response) == expected
    assert b"\r\nX-Injected" not in response
    assert len(response) < 64 * 1024
