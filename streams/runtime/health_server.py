"""Serve probes and metrics by HTTP. A server of a framework would take 8 MB of each process."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# A probe or a scrape takes milliseconds. Each connection serves one request.
CONNECTION_SECONDS = 15.0
CONNECTIONS = 32
HEAD_BYTES = 16 * 1024
TEXT = "text/plain; charset=utf-8"


class _Response:
    """A response of text."""

    def __init__(self, status: HTTPStatus, body: bytes, content_type: str = TEXT) -> None:
        self._status, self._body, self._content_type = status, body, content_type

    def encode(self, *, with_body: bool) -> bytes:
        head = (
            f"HTTP/1.1 {self._status.value} {self._status.phrase}\r\nContent-Type: {self._content_type}\r\n"
            f"Content-Length: {len(self._body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (self._body if with_body else b"")


Pages = Mapping[str, Callable[[], Awaitable[_Response]]]


def _refusal(status: HTTPStatus) -> _Response:
    return _Response(status, f"{status.value} {status.phrase}\n".encode())


class _Connection(asyncio.Protocol):
    """A connection with a time limit, for one request.

    When there are too many, the oldest connection ends, so that idle connections do not block probes.
    """

    def __init__(self, pages: Pages, open_ones: "dict[_Connection, None]") -> None:
        self._pages = pages
        self._open_ones = open_ones
        self._head = b""
        self._responding: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(CONNECTION_SECONDS, self._transport.abort)
        self._open_ones[self] = None
        if len(self._open_ones) > CONNECTIONS:
            next(iter(self._open_ones))._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._open_ones.pop(self, None)
        if self._responding:
            self._responding.cancel()

    def data_received(self, data: bytes) -> None:
        if self._responding:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > HEAD_BYTES:
            self._responding = asyncio.get_running_loop().create_task(self._respond())

    def eof_received(self) -> bool:
        # A client that has sent its request may still read.
        return self._responding is not None

    async def _respond(self) -> None:
        method, _, remainder = self._head.partition(b" ")
        path = remainder.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        page = self._pages.get(path)
        if b"\r\n\r\n" not in self._head:
            response = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not path.startswith("/"):
            response = _refusal(HTTPStatus.BAD_REQUEST)
        elif page is None:
            response = _refusal(HTTPStatus.NOT_FOUND)
        elif method not in (b"GET", b"HEAD"):
            response = _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            try:
                response = await page()
            except Exception:
                logging.getLogger(__name__).exception("a page of the health port failed")
                response = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._transport.write(response.encode(with_body=method != b"HEAD"))
        self._transport.close()


@asynccontextmanager
async def serving(
    listening: socket.socket,
    readiness_problems: Callable[[], Awaitable[list[str]]],
    metrics_of: CollectorRegistry | Callable[[], Awaitable[tuple[bytes, str]]],
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` (503 with what is missing) and `/metrics` during the block. Yields the port.

    Instead of a registry, a function may return the metrics as they are sent, with their content type.
    """

    async def healthz() -> _Response:
        return _Response(HTTPStatus.OK, b"ok\n")

    async def readyz() -> _Response:
        problems = await readiness_problems()
        text = "".join(f"{line}\n" for line in problems) or "ready\n"
        return _Response(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK, text.encode())

    async def metrics() -> _Response:
        if isinstance(metrics_of, CollectorRegistry):
            return _Response(HTTPStatus.OK, generate_latest(metrics_of), CONTENT_TYPE_LATEST)
        return _Response(HTTPStatus.OK, *await metrics_of())

    pages: Pages = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    open_ones: dict[_Connection, None] = {}
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(pages, open_ones), sock=listening)
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.close()
        for connection in list(open_ones):
            connection._transport.abort()
