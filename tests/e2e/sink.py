"""A fast endpoint for thousands of requests: one event loop in a thread."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from time import monotonic

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Sink:
    """Listens on loopback and responds with 200, after `delays[path]()` seconds if set."""

    def __init__(self) -> None:
        self.received: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self.delays: dict[str, Callable[[], float]] = {}
        self._loop = asyncio.new_event_loop()
        listening = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=512)
        self._server = self._loop.run_until_complete(listening)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{path}"

    def ids(self, path: str) -> list[str]:
        """The event ids received at a path, in order."""
        return [event_id for event_id, _ in self.received[path]]

    def has_all(self, path: str, event_ids: set[str]) -> bool:
        """Whether exactly these events were received, each at least once."""
        return set(self.ids(path)) == event_ids

    def has_some(self, path: str, event_ids: set[str]) -> bool:
        return event_ids <= set(self.ids(path))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.close()


class _Connection(asyncio.Protocol):
    """The minimum of HTTP that our sender needs."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        path = first.split(" ")[1]
        self._sink.received[path].append((headers["webhook-id"], monotonic()))
        delay = self._sink.delays.get(path)
        asyncio.get_running_loop().call_later(delay() if delay else 0, self._respond)

    def _respond(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(RESPONSE)
