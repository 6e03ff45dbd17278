"""Serve probes and metrics over HTTP. A framework's server would take 8 MB in each process."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streams.build import build_version

# A probe or a scrape takes milliseconds. Each connection serves one request.
CONNECTION_TIMEOUT_SECONDS = 15.0
MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16 * 1024
TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"


class _Response:
    """A response of text."""

    def __init__(self, status: HTTPStatus, body: bytes, content_type: str = TEXT_CONTENT_TYPE) -> None:
        self._status, self._body, self._content_type = status, body, content_type

    def encode(self, *, with_body: bool) -> bytes:
        head = (
            f"HTTP/1.1 {self._status.value} {self._status.phrase}\r\nContent-Type: {self._content_type}\r\n"
            f"Content-Length: {len(self._body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (self._body if with_body else b"")


Pages = Mapping[str, Callable[[], Awaitable[_Response]]]


def _error_response(status: HTTPStatus) -> _Response:
    return _Response(status, f"{status.value} {status.phrase}\n".encode())


class _Connection(asyncio.Protocol):
    """A connection with a time limit, for one request.

    When there are too many, the oldest connection ends, so that idle connections do not block probes.
    """

    def __init__(self, pages: Pages, open_connections: "dict[_Connection, None]") -> None:
        self._pages = pages
        self._open_connections = open_connections
        self._received_head = b""
        self._response_task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._timeout_handle = asyncio.get_running_loop().call_later(CONNECTION_TIMEOUT_SECONDS, self._transport.abort)
        self._open_connections[self] = None
        if len(self._open_connections) > MAX_CONNECTIONS:
            next(iter(self._open_connections))._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeout_handle.cancel()
        self._open_connections.pop(self, None)
        if self._response_task:
            self._response_task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._response_task:
            return
        self._received_head += data
        if b"\r\n\r\n" in self._received_head or len(self._received_head) > MAX_HEAD_BYTES:
            self._response_task = asyncio.get_running_loop().create_task(self._respond())

    def eof_received(self) -> bool:
        # A client that has sent its request may still read.
        return self._response_task is not None

    async def _respond(self) -> None:
        method, _, remainder = self._received_head.partition(b" ")
        path = remainder.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        make_response = self._pages.get(path)
        if b"\r\n\r\n" not in self._received_head:
            response = _error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not path.startswith("/"):
            response = _error_response(HTTPStatus.BAD_REQUEST)
        elif make_response is None:
            response = _error_response(HTTPStatus.NOT_FOUND)
        elif method not in (b"GET", b"HEAD"):
            response = _error_response(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            try:
                response = await make_response()
            except Exception:
                logging.getLogger(__name__).exception("a page of the health port failed")
                response = _error_response(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._transport.write(response.encode(with_body=method != b"HEAD"))
        self._transport.close()


@asynccontextmanager
async def serve_health(
    health_socket: socket.socket,
    readiness_problems: Callable[[], Awaitable[list[str]]],
    metrics_source: CollectorRegistry | Callable[[], Awaitable[tuple[bytes, str]]],
    notes: Sequence[str] = (),
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` during the block. Yields the port.

    `/readyz` returns the version and the notes, or 503 with the problems.

    Instead of a registry, a function may return the metrics as they are sent, with their content type.
    """

    async def healthz() -> _Response:
        return _Response(HTTPStatus.OK, b"ok\n")

    async def readyz() -> _Response:
        problems = await readiness_problems()
        text = "".join(f"{line}\n" for line in problems) or "\n".join(["ready", build_version(), *notes, ""])
        return _Response(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK, text.encode())

    async def metrics() -> _Response:
        if isinstance(metrics_source, CollectorRegistry):
            return _Response(HTTPStatus.OK, generate_latest(metrics_source), CONTENT_TYPE_LATEST)
        return _Response(HTTPStatus.OK, *await metrics_source())

    pages: Pages = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    open_connections: dict[_Connection, None] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(pages, open_connections), sock=health_socket
    )
    try:
        yield int(health_socket.getsockname()[1])
    finally:
        server.close()
        for connection in list(open_connections):
            connection._transport.abort()
