"""Customers' servers in a process of their own: they answer as their path says, and remember when what arrived."""

import asyncio
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
HANG_SECONDS = 30.0

# (path, event id, seconds of CLOCK_MONOTONIC when it had arrived whole, whether it was answered)
Receipt = tuple[str, str, float, bool]


class Handler(asyncio.Protocol):
    """One connection. `/slow-<ms>/…` answers after so long; `/hangs/…` answers one in three and leaves two hanging."""

    receipts: list[Receipt]
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        length = int(_header(head, b"content-length:"))
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = self.buffer[end + 4 + length :]
        path = head[5 : head.find(b" ", 5)].decode()
        self._answer(path, _header(head, b"webhook-id:").decode())

    def _answer(self, path: str, event_id: str) -> None:
        Handler.count += 1
        hangs = path.startswith("/hangs/") and Handler.count % 3 != 0
        Handler.receipts.append((path, event_id, time.monotonic(), not hangs))
        wait = HANG_SECONDS if hangs else int(path[6 : path.find("/", 6)]) / 1000 if path.startswith("/slow-") else 0
        if wait:
            asyncio.get_running_loop().call_later(wait, self._write)
        else:
            self._write()

    def _write(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(name) + len(name)
    end = head.find(b"\r", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _serve(parent: Connection) -> None:
    os.setsid()  # a share of the cores of its own, as every other process here has

    async def serve() -> None:
        Handler.receipts = []
        server = await asyncio.get_running_loop().create_server(Handler, "127.0.0.1", 0, backlog=4096)
        parent.send(server.sockets[0].getsockname()[1])

        over = asyncio.Event()

        def asked() -> None:
            try:
                question = parent.recv()
            except EOFError:  # whoever measures is gone
                asyncio.get_running_loop().remove_reader(parent.fileno())
                over.set()
                return
            if question == "count":
                parent.send(len(Handler.receipts))
                return
            parent.send(Handler.receipts)
            Handler.receipts = []

        asyncio.get_running_loop().add_reader(parent.fileno(), asked)
        # A long answer goes out whole: the loop would make the pipe refuse what does not fit at once.
        os.set_blocking(parent.fileno(), True)
        await over.wait()
        server.close()

    uvloop.run(serve())


class Sink:
    """Listens on loopback until it is closed."""

    def __init__(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.port = int(self._connection.recv())

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self) -> int:
        """How many requests came in since they were taken last."""
        self._connection.send("count")
        return int(self._connection.recv())

    def take(self) -> list[Receipt]:
        """What came in since the last time, in order."""
        self._connection.send("take")
        receipts: list[Receipt] = self._connection.recv()
        return receipts

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
