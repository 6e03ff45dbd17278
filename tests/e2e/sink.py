"""A customer's server for thousands of requests: one loop in a thread, which answers 200 after a time of its own."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from time import monotonic

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Sink:
    """Listens on loopback; `thinks[path]` gives the seconds until a request is answered, else it is at once."""

    def __init__(self) -> None:
        self.came: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self.thinks: dict[str, Callable[[], float]] = {}
        self._loop = asyncio.new_event_loop()
        listening = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=512)
        self._server = self._loop.run_until_complete(listening)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{path}"

    def ids(self, path: str) -> list[str]:
        """The events that came in at a path, in order."""
        return [event_id for event_id, _ in self.came[path]]

    def has_all(self, path: str, event_ids: set[str]) -> bool:
        """Exactly these events, each once or more."""
        return set(self.ids(path)) == event_ids

    def has_some(self, path: str, event_ids: set[str]) -> bool:
        return event_ids <= set(self.ids(path))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.close()


class _Connection(asyncio.Protocol):
    """Only as much of HTTP as one well-behaved sender speaks."""

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
        self._sink.came[path].append((headers["webhook-id"], monotonic()))
        think = self._sink.thinks.get(path)
        asyncio.get_running_loop().call_later(think() if think else 0, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)
