"""Parse the responses that arrive on one connection."""

import asyncio
from datetime import datetime

from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from streams.adapters.http.batching import BatchedWrites, Deadlines
from streams.core.deliveries.outcome import Response
from streams.core.limits import MAX_RESPONSE_BODY_BYTES

MAX_BODY_READ_BYTES = 64 * 1024
# Far more than a response needs. Only endless headers or interim responses reach it.
MAX_RECEIVED_BYTES = 512 * 1024
# Each header counts 32 bytes more, as in HTTP/2 (RFC 9113 §6.5.2).
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 32
MAX_HEADER_CHARACTERS = 1024
_FRAMING_HEADERS = {"content-length", "transfer-encoding"}


class EndlessResponse(Exception):
    """The endpoint sent endless headers or interim responses."""


class InvalidResponse(Exception):
    """The endpoint sent something other than an HTTP response."""


class EndpointConnection(ResponseHandler):
    """One connection, with one request at a time. llhttp (httptools) parses the responses.

    `opened_at` is when it was opened, `certificate_ends_at` when its certificate expires, if that is soon.
    `received_bytes` counts the bytes that arrived since its last request.
    """

    opened_at = 0.0
    certificate_ends_at: datetime | None = None
    received_bytes = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, writes: BatchedWrites, deadlines: Deadlines) -> None:
        super().__init__(loop)
        self._writes = writes
        self._deadlines = deadlines
        self._response: asyncio.Future[Response] | None = None
        self._llhttp: HttpResponseParser | None = HttpResponseParser(self)
        # Common mistakes of servers, which aiohttp accepts too.
        self._llhttp.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._is_complete = False
        self._status: int | None = None
        self._kept_body_bytes = MAX_RESPONSE_BODY_BYTES

    @property
    def is_open(self) -> bool:
        """Whether it can take a request: it is connected, and the endpoint has sent nothing without a request."""
        return self.transport is not None and not self._should_close and not self.transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the last request is sent and its response read to the end."""
        is_flushed = self.transport is not None and not self.transport.get_write_buffer_size()
        return is_flushed and self._is_complete and self.is_open

    @property
    def partial_response(self) -> Response | None:
        """The part of the current response that arrived, from the end of its headers on."""
        if self._status is None or not 200 <= self._status < 600:
            return None
        return Response(self._status, self._headers, self._body)

    def send(
        self, request: bytes, deadline: float, kept_body_bytes: int = MAX_RESPONSE_BODY_BYTES
    ) -> asyncio.Future[Response]:
        """Send a request. Reads 64 KiB of the response's body, and keeps `kept_body_bytes`.

        The future fails with aiohttp's error for a lost connection, `InvalidResponse`, `EndlessResponse`, or
        TimeoutError at `deadline`, in the loop's time.
        """
        self._is_complete, self._status, self.received_bytes = False, None, 0
        self._kept_body_bytes = kept_body_bytes
        self._response = self._loop.create_future()
        if self.transport is None:
            self._response.set_exception(ServerDisconnectedError())
        elif self._should_close:
            # Not a response to a request that was not sent yet (RFC 9112 §9.2). It is dropped; no response to the next
            # request would follow.
            self._fail(InvalidResponse("the endpoint sent something before the request"))
        else:
            self._writes.add(self.transport, request)
            self._deadlines.set(self, deadline)
        return self._response

    def expire(self) -> None:
        self._fail(TimeoutError())

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._llhttp is None or self._response is None or self._response.done():
            # Bytes without a request, or the rest of a response that is long enough.
            self.force_close()
            return
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            self._fail(InvalidResponse("an upgrade that was not requested"))
        except HttpParserError as error:
            self._fail(InvalidResponse(str(error)))
        if self.received_bytes > MAX_RECEIVED_BYTES:
            self._fail(EndlessResponse())

    def connection_lost(self, exc: BaseException | None) -> None:
        self._llhttp = None  # it holds a reference to this connection
        if self._response is not None and not self._response.done():
            self._end(exc)
        self._deadlines.clear(self)
        super().connection_lost(exc)

    # -- callbacks of llhttp ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._response is None or self._response.done():
            self.force_close()  # a second response
        self._status = None
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_framed = False
        self._body = b""
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status is not None:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + 32
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(InvalidResponse(f"more than {MAX_HEAD_BYTES // 1024} KiB of headers"))
        key = _text(name).lower()
        self._is_framed = self._is_framed or key in _FRAMING_HEADERS
        if len(self._headers) < MAX_HEADERS or key == "retry-after":
            self._headers.setdefault(key, _text(value))

    def on_headers_complete(self) -> None:
        assert self._llhttp is not None
        status = self._llhttp.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._status = status
        if not 200 <= status < 600:
            self._fail(InvalidResponse(f"status {status}"))

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._body += data[: self._kept_body_bytes - len(self._body)]
        if self._body_bytes >= MAX_BODY_READ_BYTES:
            self._complete_response()

    def on_message_complete(self) -> None:
        if self._status is not None and self._llhttp is not None:
            self._is_complete = self._llhttp.should_keep_alive()
            self._complete_response()

    # ----------------------------------------------------------------------------------------------------------

    def _complete_response(self) -> None:
        if self._response is not None and not self._response.done():
            assert self._status is not None
            self._deadlines.clear(self)
            self._response.set_result(Response(self._status, self._headers, self._body))

    def _fail(self, error: Exception) -> None:
        self.force_close()
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)

    def _end(self, cause: BaseException | None) -> None:
        """The connection is lost, which ends a response without a length."""
        if self._status is None:
            error: Exception = ClientOSError(*cause.args) if isinstance(cause, OSError) else ServerDisconnectedError()
        elif cause is None and not self._is_framed:
            self._complete_response()
            return
        else:
            error = ClientPayloadError()
        error.__cause__ = cause
        self._fail(error)


def _text(raw: bytes) -> str:
    """Header text, short and printable."""
    return printable(raw[:MAX_HEADER_CHARACTERS].decode(errors="replace"))


def printable(text: str) -> str:
    """The text with unprintable characters replaced, for pages and log lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
