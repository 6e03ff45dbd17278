"""The bytes of a POST by `HttpSender`, and what it keeps of the response."""

import asyncio
import gzip
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix

from builders import delivery
from real.endpoint import OK, Received, endpoint, saying
from real.posting import PATIENCE, answered, at, post, sending, sent
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import build_request
from streams.core.deliveries.signing import make_secret, sign_platform

# -- what leaves -----------------------------------------------------------------------------------------------


async def test_the_bytes_that_leave() -> None:
    async with endpoint() as there, sending() as sender:
        assert await sender.send(post(there, "/a%2fb/../c?x=%2B+&y=%3d")) == Response(
            200, {"content-length": "2"}, b"ok"
        )
    (request,) = there.requests
    assert request.body == b'{"id":"evt_1"}'
    assert request.head.decode().split("\r\n") == [
        "POST /a%2fb/../c?x=%2B+&y=%3d HTTP/1.1",
        f"Host: 127.0.0.1:{there.port}",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        "User-Agent: scorm-webhooks/1.0",
        "webhook-id: evt_1",
        "Content-Length: 14",
        "",
        "",
    ]


async def test_a_url_without_a_path() -> None:
    async with endpoint() as there, sending() as sender:
        answered(await sender.send(post(there, "?token=1")))
    assert there.requests[0].head.startswith(b"POST /?token=1 HTTP/1.1\r\n")


@pytest.mark.parametrize("body", [b"", bytes(range(256)) * 4096], ids=["empty", "1 MiB"])
async def test_any_body_arrives_as_it_is(body: bytes) -> None:
    async with endpoint() as there, sending() as sender:
        answered(await sender.send(post(there)._replace(body=body)))
    assert there.requests[0].body == body


async def test_a_customers_gateway_may_want_another_accept() -> None:
    async with endpoint() as there, sending() as sender:
        request = post(there)
        theirs = {"ACCEPT": "text/plain", **request.headers}
        answered(await sender.send(request._replace(headers=theirs, private_names=frozenset({"ACCEPT"}))))
    assert [line for line in there.requests[0].lines if line[0].lower() == "accept"] == [("ACCEPT", "text/plain")]


async def test_the_official_verifiers_accept_what_arrives() -> None:
    old, new = make_secret(b"o" * 32), make_secret(b"n" * 32)
    now = datetime.now(UTC)
    body = '{"id":"evt_1","data":{"title":"Zürich – 安全"}}'.encode()
    owed = delivery(body=body)
    async with endpoint() as there, sending() as sender:
        url = post(there).url
        timestamp = int(now.timestamp())
        request = build_request(owed, url, [old, new], {"X-Key": "k"}, timestamp, "X-Signature")
        answered(await sender.send(request))
    (received,) = there.requests
    for secret in (old, new):
        for verifier in (standardwebhooks.Webhook(secret), svix.Webhook(secret)):
            verifier.verify(received.body, received.headers)
            with pytest.raises(standardwebhooks.WebhookVerificationError):
                verifier.verify(received.body + b" ", received.headers)
    assert received.headers["x-signature"] == sign_platform(old, received.body)
    assert received.headers["x-signature-next"] == sign_platform(new, received.body)
    assert received.headers["x-key"] == "k"


async def test_cookies_are_not_kept() -> None:
    script = saying(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    async with endpoint(script) as there, sending(lookup=at("127.0.0.1")) as sender:
        for _ in range(2):
            answered(await sender.send(post(there, host="hooks.example")))
    assert "cookie" not in there.requests[1].headers


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with endpoint() as there, endpoint() as proxy, sending() as sender:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        answered(await sender.send(post(there)))
    assert proxy.connections == 0


# -- what comes back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with endpoint() as elsewhere, sending() as sender:
        location = f"Location: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        async with endpoint(saying(f"HTTP/1.1 {status} Moved\r\n{location}".encode())) as there:
            assert answered(await sender.send(post(there))).status == status
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 500 \r\nContent-Length: 4\r\n\r\nsorr", 500, b"sorr"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\n\r\n",
            200,
            b"ok!!!",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\0\xff\xfe\r\n\0", 200, b"\0\xff\xfe\r\n\0"),
    ],
)
async def test_answers(raw: bytes, status: int, body: bytes) -> None:
    response = answered(await sent(saying(raw, close=True)))
    assert (response.status, response.body) == (status, body)


async def test_an_answer_that_comes_byte_by_byte() -> None:
    async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
        for (
            byte
        ) in b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    response = answered(await sent(drip))
    assert (response.status, response.body, response.headers) == (200, b"ok", {"server": "x", "content-length": "2"})


async def test_a_trailer_is_not_a_header() -> None:
    raw = b"HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\nRetry-After: 30\r\n\r\n"
    assert answered(await sent(saying(raw))).headers == {"transfer-encoding": "chunked"}


async def test_headers_of_an_answer_are_few_short_and_printable() -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(90))
    raw = b"HTTP/1.1 429 No\r\nA: %b\r\nB: caf\xe9\tz\r\na: two\r\n%bRetry-After: 30\r\n\r\n"
    response = answered(await sent(saying(raw % (b"x" * 5000, many), close=True)))
    assert len(response.headers) == 33
    assert response.headers["a"] == "x" * 1024
    assert response.headers["b"] == "caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}z"
    assert response.headers["retry-after"] == "30"


async def test_of_a_long_answer_only_the_start_is_read() -> None:
    written = 0
    left = asyncio.Event()

    async def endless(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 100_000)
                written += 100_000
                await writer.drain()
        except ConnectionError:
            left.set()

    async with endpoint(endless) as there, sending() as sender:
        response = answered(await sender.send(post(there)))
        assert response.body == b"x" * 4096
        await asyncio.wait_for(left.wait(), PATIENCE)  # the connection is closed, not the sender
    assert written < 100_000_000  # only the socket buffers


async def test_a_compressed_answer_is_kept_as_it_came() -> None:
    bomb = gzip.compress(bytes(10_000_000), mtime=0)
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
    assert answered(await sent(saying(raw % (len(bomb), bomb)))).body == bomb[:4096]
