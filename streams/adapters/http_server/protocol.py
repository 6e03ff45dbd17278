"""Limit how much one HTTP connection sends, and for how long, before authentication."""

import asyncio
import re
from enum import Enum, auto
from typing import Any, ClassVar, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streams.adapters.http_server import refusals
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.refusals import Refusal

# Refused connections that may stay open for a moment, so that the client can read why.
MAX_LINGERING_CONNECTIONS = 16
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")


class _Part(Enum):
    """The part of a request that the parser reads."""

    NOTHING = auto()
    HEADERS = auto()
    BODY = auto()


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. A request that exceeds a limit gets a 4xx or 503 response, and the connection is closed.

    uvicorn's own protocol has no limits on headers, slow clients or slow readers.
    """

    limits: ClassVar[ConnectionLimits]
    observer: ClassVar[ConnectionObserver]
    # The server's connections that wait for their clients, longest first. None of their requests is being handled.
    waiting_for_client: ClassVar[dict["LimitedHttpProtocol", None]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._part = _Part.NOTHING
        self._part_bytes = 0
        self._refusal: Refusal | None = None
        self._ignores_input = False
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.observer.on_count(len(self.connections))
        self._start_part(_Part.HEADERS, self.limits.header_seconds)
        excess = len(self.connections) - self.limits.connections - self.limits.reserve
        if excess <= 0 or self._close_longest_waiting():
            self._await_client()
            return
        self._refuse(refusals.TOO_MANY_CONNECTIONS)
        if excess > MAX_LINGERING_CONNECTIONS:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._read_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        self.waiting_for_client.pop(self, None)
        super().connection_lost(exc)
        self.observer.on_count(len(self.connections))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        # One read may return far more than the limit of the headers.
        for start in range(0, len(data), self.limits.header_bytes):
            if self._ignores_input:
                return
            self._feed(data[start : start + self.limits.header_bytes])

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timeout()
        self._await_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_handling():
            self.waiting_for_client.pop(self, None)
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    # -- uvicorn's parser ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._part is not _Part.HEADERS:
            self._start_part(_Part.HEADERS, self.limits.header_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part is _Part.BODY:
            return  # a trailer is not a header
        super().on_header(name, value)
        if len(self.headers) > self.limits.header_lines:
            self._fail(refusals.HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._check_headers()
        super().on_headers_complete()
        self._start_part(_Part.BODY, self.limits.body_seconds)
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._is_handling():
            self.waiting_for_client.pop(self, None)
        # After an early response, no timer runs.
        is_responded = self.cycle.response_complete
        self._start_part(_Part.NOTHING, self.limits.idle_seconds if is_responded else None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_timeout()
        if not self._is_handling():
            self._await_client()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    # -- number ----------------------------------------------------------------------------------------------------

    def _is_handling(self) -> bool:
        """Whether the newest request is complete, but its response is not."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _await_client(self) -> None:
        self.waiting_for_client.pop(self, None)
        if not self.transport.is_closing():
            self.waiting_for_client[self] = None

    def _close_longest_waiting(self) -> bool:
        """Close the connection that has waited longest for its client. False if none waits."""
        protocol = next(iter(self.waiting_for_client), None)
        if protocol is None:
            return False
        del self.waiting_for_client[protocol]
        self.observer.on_close(refusals.TOO_MANY_CONNECTIONS.reason)
        protocol.transport.abort()
        return True

    # -- limits ----------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        if self._part is _Part.NOTHING:
            self._start_part(_Part.HEADERS, self.limits.header_seconds)
        self._part_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is handled without the upgrade. No other request can follow it.
            self._ignores_input = True
        except httptools.HttpParserError:
            self._refuse(self._refusal or refusals.BAD_REQUEST)
        else:
            if self._part is _Part.HEADERS and self._part_bytes > self.limits.header_bytes:
                self._refuse(refusals.HEADERS_TOO_LARGE)
            elif self._part is _Part.BODY and self._part_bytes > self.limits.body_bytes:
                self._refuse(refusals.BODY_TOO_LARGE)

    def _check_headers(self) -> None:
        """Check what the parser does not check. An exception stops the parser."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.header_bytes:
            self._fail(refusals.HEADERS_TOO_LARGE)
        if (version := self.parser.get_http_version()) not in ("1.0", "1.1"):
            self._fail(refusals.BAD_REQUEST)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)) or (not hosts and version == "1.1"):
            self._fail(refusals.BAD_HOST)
        names = {name for name, _ in self.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            self._fail(refusals.BAD_LENGTH)
        if len(self.pipeline) >= self.limits.pipelined_requests:
            self._fail(refusals.TOO_MANY_PIPELINED)

    def _fail(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise ValueError(refusal.title)

    def _start_part(self, part: _Part, seconds: float | None) -> None:
        """Limit the time in which the client must send the rest of this part."""
        self._part, self._part_bytes = part, 0
        if self._read_timer is not None:
            self._read_timer.cancel()
        self._read_timer = None if seconds is None else self.loop.call_later(seconds, self._on_read_timeout, seconds)

    def _on_read_timeout(self, seconds: float) -> None:
        if self.flow.read_paused:  # the application is slow, not the client
            self._read_timer = self.loop.call_later(seconds, self._on_read_timeout, seconds)
        elif self._part is _Part.NOTHING or (self._part is _Part.HEADERS and not self._part_bytes):
            self._close()
        else:
            self._refuse(refusals.TIMEOUT)

    def _start_write_timeout(self) -> None:
        """Start the timer in which the client must read the sent data. After that the connection is closed, and its
        memory freed.
        """
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._abort_slow_reader)

    def _abort_slow_reader(self) -> None:
        self.observer.on_close("slow_reader")
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()
        self._start_write_timeout()

    def _refuse(self, refusal: Refusal) -> None:
        """Respond, unless an earlier request has no response yet, and close the connection."""
        self.observer.on_close(refusal.reason)
        self._ignores_input = True
        if self._read_timer is not None:
            self._read_timer.cancel()
        cycle, is_in_body = self.cycle, self._part is _Part.BODY
        if cycle is None or cycle.response_complete:
            self._close_slowly(None if is_in_body else refusal)
        elif is_in_body and not cycle.response_started and not self.pipeline:
            cycle.disconnected = True
            cycle.message_event.set()
            self._close_slowly(refusal)
        elif is_in_body:
            self._close()
        else:
            cycle.keep_alive = False  # the response to an earlier request closes the connection

    def _close_slowly(self, refusal: Refusal | None) -> None:
        """Close slowly: a reset would keep the client from reading the response."""
        if refusal is not None:
            self.transport.write(refusal.response(self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._read_timer = self.loop.call_later(self.limits.linger_seconds, self.transport.abort)
