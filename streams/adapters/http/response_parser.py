"""What an endpoint answers, as it comes in over one connection."""

import asyncio

from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from streams.adapters.http.batching import BatchedWrites, Deadlines
from streams.core.limits import ANSWER_KEPT_BYTES
from streams.core.outcome import Response

ANSWER_READ_BYTES = 64 * 1024
# Far more than is read of an answer; only headers or interim answers without end come to so much.
MOST_RECEIVED_BYTES = 512 * 1024
# With 32 bytes more for each header, as HTTP/2 counts them (RFC 9113 §6.5.2).
MOST_HEAD_BYTES = 32 * 1024
MOST_HEADERS = 32
MOST_HEADER_CHARACTERS = 1024
_FRAMED_BY = {"content-length", "transfer-encoding"}


class EndlessResponse(Exception):
    """The endpoint went on and on before its answer began."""


class InvalidResponse(Exception):
    """What came is not an answer of HTTP."""


class EndpointConnection(ResponseHandler):
    """A connection of aiohttp's pool that is asked one thing at a time; llhttp (httptools) parses the answers.

    It knows when it was opened and how much came since its last request left.
    """

    opened_at = 0.0
    received_bytes = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, departures: BatchedWrites, deadlines: Deadlines) -> None:
        super().__init__(loop)
        self._departures = departures
        self._deadlines = deadlines
        self._asked: asyncio.Future[Response] | None = None
        self._llhttp: HttpResponseParser | None = HttpResponseParser(self)
        # What servers in the field get wrong, and aiohttp puts up with too.
        self._llhttp.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._is_whole = False
        self._status: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may be asked: its endpoint is there, and sent nothing that it was not asked for."""
        return self.transport is not None and not self._should_close and not self.transport.is_closing()

    @property
    def may_be_asked_again(self) -> bool:
        """Whether nothing is left of the last answer, nor of a request that was answered early."""
        sent = self.transport is not None and not self.transport.get_write_buffer_size()
        return sent and self._is_whole and self.is_open

    def ask(self, request: bytes, deadline: float) -> asyncio.Future[Response]:
        """Send a request. Of the response's body 64 KiB are read and `ANSWER_KEPT_BYTES` kept.

        The future fails with what aiohttp raises for a lost connection, `InvalidResponse`, `EndlessResponse`, or
        TimeoutError at `deadline`, in the loop's time.
        """
        self._is_whole, self._status, self.received_bytes = False, None, 0
        self._asked = self._loop.create_future()
        if self.transport is None:
            self._asked.set_exception(ServerDisconnectedError())
        else:
            self._departures.add(self.transport, request)
            self._deadlines.set(self, deadline)
        return self._asked

    def expire(self) -> None:
        self._fail(TimeoutError())

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._llhttp is None or self._asked is None or self._asked.done():
            # Nobody asked for this, or it is the rest of what was read enough of.
            self.force_close()
            return
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            self._fail(InvalidResponse("an upgrade that nobody asked for"))
        except HttpParserError as error:
            self._fail(InvalidResponse(str(error)))
        if self.received_bytes > MOST_RECEIVED_BYTES:
            self._fail(EndlessResponse())

    def connection_lost(self, exc: BaseException | None) -> None:
        self._llhttp = None  # it refers to this
        if self._asked is not None and not self._asked.done():
            self._end(exc)
        self._deadlines.clear(self)
        super().connection_lost(exc)

    # -- what llhttp finds -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._asked is None or self._asked.done():
            self.force_close()  # a second answer
        self._status = None
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_framed = False
        self._body = b""
        self._read_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status is not None:
            return  # of a trailer
        self._head_bytes += len(name) + len(value) + 32
        if self._head_bytes > MOST_HEAD_BYTES:
            self._fail(InvalidResponse(f"more than {MOST_HEAD_BYTES // 1024} KiB of headers"))
        key = _text(name).lower()
        self._is_framed = self._is_framed or key in _FRAMED_BY
        if len(self._headers) < MOST_HEADERS or key == "retry-after":
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
        self._read_bytes += len(data)
        self._body += data[: ANSWER_KEPT_BYTES - len(self._body)]
        if self._read_bytes >= ANSWER_READ_BYTES:
            self._answer()

    def on_message_complete(self) -> None:
        if self._status is not None and self._llhttp is not None:
            self._is_whole = self._llhttp.should_keep_alive()
            self._answer()

    # ----------------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        if self._asked is not None and not self._asked.done():
            assert self._status is not None
            self._deadlines.clear(self)
            self._asked.set_result(Response(self._status, self._headers, self._body))

    def _fail(self, error: Exception) -> None:
        self.force_close()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)

    def _end(self, lost: BaseException | None) -> None:
        """The connection is gone: some answers end like that."""
        if self._status is None:
            error: Exception = ClientOSError(*lost.args) if isinstance(lost, OSError) else ServerDisconnectedError()
        elif lost is None and not self._is_framed:
            self._answer()
            return
        else:
            error = ClientPayloadError()
        error.__cause__ = lost
        self._fail(error)


def _text(raw: bytes) -> str:
    """Short, and as a page or a log line can show it."""
    return printable(raw[:MOST_HEADER_CHARACTERS].decode(errors="replace"))


def printable(text: str) -> str:
    """The text as a page or a log line can show it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
