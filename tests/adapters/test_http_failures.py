"""Every way in which a POST can fail, over real sockets."""

import asyncio
import errno
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiohttp import ClientConnectorError
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from fakes import until
from real.endpoint import OK, Endpoint, Received, endpoint, saying, silent
from real.posting import SOON, answered, at, failed, post, sending, sent
from streams.adapters.http.connector import ConnectTrace, GuardedConnector
from streams.adapters.http.failures import failure_of
from streams.adapters.http.response_parser import EndpointConnection
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import Request


async def test_no_answer() -> None:
    assert await sent(silent, timeout_seconds=SOON) == Failure(OutcomeKind.TIMEOUT)


async def test_bytes_before_the_request_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9112 §9.2. Whether they arrive before the request is sent is chance."""
    opened = GuardedConnector.open

    async def open_and_hear(*arguments: Any) -> Connection:
        connection = await opened(*arguments)
        await until(lambda: not cast(EndpointConnection, connection.protocol).is_open)
        return connection

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read()
        writer.close()

    monkeypatch.setattr(GuardedConnector, "open", open_and_hear)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, sending() as sender:
        there = Endpoint(silent, server.sockets[0].getsockname()[1])
        failure = failed(await asyncio.wait_for(sender.send(post(there)), 5))
    assert failure.kind is OutcomeKind.INVALID_RESPONSE
    assert "before the request" in failure.detail


async def test_a_dripping_answer_ends_at_the_deadline() -> None:
    async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(SOON / 10)

    # Long enough for a busy machine to begin the answer.
    failure = failed(await sent(drip, timeout_seconds=2 * SOON))
    assert failure.kind is OutcomeKind.TIMEOUT
    assert failure.partial_response
    assert (failure.partial_response.status, failure.partial_response.headers) == (200, {"content-length": "100000"})
    assert failure.partial_response.body.startswith(b"x")


async def test_dripping_headers_end_at_the_deadline() -> None:
    async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(SOON / 10)

    assert await sent(drip, timeout_seconds=SOON) == Failure(OutcomeKind.TIMEOUT)


async def test_many_interim_answers_are_borne_but_not_for_ever() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    answered(await sent(saying(hint * 1000 + OK)))

    async def endless(request: Received, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(hint * 1000)
            await writer.drain()

    assert failed(await sent(endless)).kind is OutcomeKind.INVALID_RESPONSE


@pytest.mark.parametrize(
    "raw",
    [
        b"220 mail.example ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"<html>\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http_are_an_invalid_response(raw: bytes) -> None:
    failure = failed(await sent(saying(raw)))
    assert failure.kind is OutcomeKind.INVALID_RESPONSE
    assert failure.detail.isprintable()
    assert len(failure.detail) <= 200


@pytest.mark.parametrize(
    ("raw", "begun"),
    [
        (b"", None),
        (b"HTTP/1.1 2", None),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", Response(200, {"content-length": "20"}, b"ok")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            Response(200, {"transfer-encoding": "chunked"}, b"ok"),
        ),
    ],
)
async def test_a_connection_closed_before_the_end_of_an_answer(raw: bytes, begun: Response | None) -> None:
    assert await sent(saying(raw, close=True)) == Failure(OutcomeKind.RESET, partial_response=begun)


async def test_a_port_without_a_listener() -> None:
    async with endpoint() as gone:
        pass
    async with sending() as sender:
        assert await sender.send(post(gone)) == Failure(OutcomeKind.REFUSED, f"port {gone.port}")


@pytest.mark.parametrize("reason", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EMFILE])
def test_an_unreachable_host_is_a_connect_timeout(reason: int) -> None:
    key = ConnectionKey("hooks.example", 443, True, True, None, None, None)
    failure = failure_of(ClientConnectorError(key, OSError(reason, "said")), ConnectTrace(is_opening=True))
    assert failure == Failure(OutcomeKind.CONNECT_TIMEOUT, "said")


def test_a_mistake_of_ours_is_shown_and_loses_nothing() -> None:
    assert failure_of(RuntimeError("oh"), ConnectTrace()) == Failure(OutcomeKind.UNSENDABLE, "RuntimeError('oh')")


@pytest.mark.parametrize("url", ["", "ftp://h/", "http://h/\r\nX: y", "http://u:p@h/", "http://h:0/", "http://127.1/"])
async def test_a_url_that_cannot_be_sent_to(url: str) -> None:
    async with sending() as sender:
        failure = failed(await sender.send(Request(url, {}, b"")))
    assert failure.kind is OutcomeKind.UNSENDABLE
    assert failure.detail.startswith("the URL must ")


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"X": "a\nb"}, {"X": "a\0b"}, {"X\r\nY": "b"}, {"X: y": "z"}, {"X ": "y"}]
)
async def test_a_header_that_cannot_be_sent(headers: dict[str, str]) -> None:
    async with endpoint() as there, sending() as sender:
        request = post(there)._replace(headers=headers, private_names=frozenset(headers))
        assert failed(await sender.send(request)).kind is OutcomeKind.UNSENDABLE
    assert there.requests == []


@pytest.mark.parametrize("name", ["Transfer-Encoding", "content-length", "Connection", "Expect", "HOST"])
async def test_no_customer_sets_where_a_request_ends(name: str) -> None:
    async with endpoint() as there, sending() as sender:
        request = post(there)._replace(headers={name: "chunked"}, private_names=frozenset({name}))
        assert failed(await sender.send(request)).detail == f"the header {name} cannot be set by a webhook"
    assert there.connections == 0


async def test_cancelling_is_not_a_failure() -> None:
    arrived = asyncio.Event()

    async def never(request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await silent(request, writer)

    async with endpoint(never) as there, sending() as sender:
        task = asyncio.create_task(sender.send(post(there)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_name_is_looked_up() -> None:
    async with endpoint() as there, sending(lookup=at("127.0.0.1")) as sender:
        answered(await sender.send(post(there, host="hooks.example")))
    assert there.requests[0].headers["host"] == f"hooks.example:{there.port}"


async def test_the_next_address_is_tried() -> None:
    async with endpoint() as there, sending(lookup=at("127.0.0.2", "127.0.0.1")) as sender:
        answered(await sender.send(post(there, host="hooks.example")))


async def test_a_name_that_does_not_exist() -> None:
    async with sending() as sender:
        failure = failed(await sender.send(Request("http://hooks.invalid/", {}, b"")))
    assert failure.kind is OutcomeKind.DNS
    assert failure.detail


async def test_a_name_without_addresses() -> None:
    async with sending(lookup=at()) as sender:
        failure = await sender.send(Request("http://hooks.example/", {}, b""))
    assert failure == Failure(OutcomeKind.DNS, "the name has no address")


async def test_name_servers_that_are_silent() -> None:
    async def lookup(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with sending(lookup=lookup, timeout_seconds=SOON) as sender:
        assert failed(await sender.send(Request("http://hooks.example/", {}, b""))).kind is OutcomeKind.DNS
