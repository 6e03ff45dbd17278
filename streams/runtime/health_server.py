"""Serve probes and metrics from a thread of their own. A framework's server would take 8 MB in each process."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streams.build import build_version

# A probe or a scrape takes milliseconds. Each connection serves one request.
CONNECTION_TIMEOUT_SECONDS = 15.0
MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16 * 1024
# A process whose event loop has not turned for this long hangs, and should be restarted.
HANGING_SECONDS = 10.0
PULSE_SECONDS = 1.0
# A loop that is busy for longer is as ready as it was before.
READINESS_SECONDS = 1.0
METRICS_SECONDS = 10.0
# The time to finish an answer, such as a supervisor's that asks its processes.
ANSWER_SECONDS = 10.0
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

    def end(self) -> asyncio.Task[None] | None:
        """Close the connection. Returns the task of its response, which ends too."""
        self._transport.abort()
        if self._response_task:
            self._response_task.cancel()
        return self._response_task

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


Answer = TypeVar("Answer")


class _NoAnswer(Exception):
    """The process did not answer."""


class _Busy(_NoAnswer):
    """Its event loop had no time for the question yet."""


class _ProcessLoop:
    """The event loop of the process, as the thread of the probes sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turned_at = time.monotonic()
        self._is_asked = False

    async def watch(self) -> None:
        """Find out each second whether the loop still turns."""
        while True:
            if not self._is_asked:
                self._is_asked = True
                self._loop.call_soon_threadsafe(self._on_turn)
            await asyncio.sleep(PULSE_SECONDS)

    def _on_turn(self) -> None:
        self._turned_at, self._is_asked = time.monotonic(), False

    def problem(self) -> str | None:
        """Why the process needs a restart, if it does."""
        seconds = time.monotonic() - self._turned_at
        return f"the event loop has not turned for {seconds:.0f} s" if seconds > HANGING_SECONDS else None

    async def call(self, call: Callable[[], Coroutine[Any, Any, Answer]], seconds: float) -> Answer:
        """The answer of a coroutine, which the loop must begin within some seconds. Raises `_Busy` and `_NoAnswer`."""
        if problem := self.problem():
            raise _NoAnswer(problem)
        has_begun = False

        async def begin() -> Answer:
            nonlocal has_begun
            has_begun = True
            return await call()

        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), self._loop))
        try:
            await asyncio.wait({future}, timeout=seconds)
            if not has_begun:
                raise _Busy(f"the event loop is busy: no answer within {seconds:g} s")
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            raise _NoAnswer(f"the process gave no answer within {ANSWER_SECONDS:g} s") from None
        finally:
            future.cancel()


@asynccontextmanager
async def serve_health(
    health_socket: socket.socket,
    readiness_problems: Callable[[], Coroutine[Any, Any, list[str]]],
    metrics_source: CollectorRegistry | Callable[[], Coroutine[Any, Any, tuple[bytes, str]]],
    notes: Sequence[str] = (),
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` during the block. Yields the port.

    `/healthz` and `/readyz` respond also while the event loop of the process is busy, and with 503 when it has not
    turned for ten seconds. `/readyz` returns the version and the notes, or 503 with the problems.

    Instead of a registry, a function may return the metrics as they are sent, with their content type. Both functions
    are called on the loop of the process.
    """
    process_loop = _ProcessLoop(asyncio.get_running_loop())
    last_problems = ["is starting"]

    async def healthz() -> _Response:
        if problem := process_loop.problem():
            return _Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{problem}\n".encode())
        return _Response(HTTPStatus.OK, b"ok\n")

    async def readyz() -> _Response:
        try:
            problems = last_problems[:] = await process_loop.call(readiness_problems, READINESS_SECONDS)
        except _Busy:
            problems = last_problems
        except _NoAnswer as error:
            problems = [str(error)]
        text = "".join(f"{line}\n" for line in problems) or "\n".join(["ready", build_version(), *notes, ""])
        return _Response(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK, text.encode())

    async def latest_metrics() -> tuple[bytes, str]:
        if isinstance(metrics_source, CollectorRegistry):
            return generate_latest(metrics_source), CONTENT_TYPE_LATEST
        return await metrics_source()

    async def metrics() -> _Response:
        try:
            return _Response(HTTPStatus.OK, *await process_loop.call(latest_metrics, METRICS_SECONDS))
        except _NoAnswer as error:
            return _Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())

    health_loop = asyncio.SelectorEventLoop()
    server = health_loop.create_task(
        _serve(health_socket, {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}, process_loop)
    )

    def run() -> None:
        with suppress(asyncio.CancelledError):
            health_loop.run_until_complete(server)
        health_loop.close()

    thread = threading.Thread(target=run, name="health", daemon=True)
    thread.start()
    try:
        yield int(health_socket.getsockname()[1])
    finally:
        health_loop.call_soon_threadsafe(server.cancel)
        thread.join()


async def _serve(health_socket: socket.socket, pages: Pages, process_loop: _ProcessLoop) -> None:
    open_connections: dict[_Connection, None] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(pages, open_connections), sock=health_socket
    )
    try:
        await process_loop.watch()
    finally:
        server.close()
        tasks = [connection.end() for connection in list(open_connections)]
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
