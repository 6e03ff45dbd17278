"""An endpoint on a raw socket. It records bytes, and follows a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Received:
    """One request, byte for byte."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.lines[1:]}

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The request line and the headers, split at the first colon."""
        lines = self.head.decode().removesuffix("\r\n\r\n").split("\r\n")
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


Script = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Endpoint:
    """A listening endpoint and its received requests. A connection stays open until the script closes it."""

    script: Script
    port: int = 0
    connections: int = 0
    requests: list[Received] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = Received(head, b"").headers.get("content-length", "0")
                request = Received(head, await reader.readexactly(int(length)))
                self.requests.append(request)
                await self.script(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()


def saying(*responses: bytes, close: bool = False) -> Script:
    """Send these responses in turn, then the last one again. With `close`, close the connection after each."""
    left = list(responses)

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        if close:
            writer.close()

    return script


async def silent(request: Received, writer: asyncio.StreamWriter) -> None:
    """Send nothing."""
    await asyncio.Event().wait()


async def leaving(request: Received, writer: asyncio.StreamWriter) -> None:
    """Close the connection without a response."""
    writer.close()


@asynccontextmanager
async def endpoint(
    script: Script | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Endpoint]:
    """An endpoint during the block. Its connections are cancelled at the end."""
    made = Endpoint(script or saying(OK))
    async with listening(made.serve, tls=tls, host=host) as made.port:
        yield made


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    buffer_bytes: int = 2**16,
) -> AsyncIterator[int]:
    """The port of a server during the block. It ends its connections, which `asyncio.Server` would wait for."""
    serving: set[asyncio.Future[None]] = set()
    connections: set[asyncio.StreamWriter] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        serving.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(accept, host, 0, ssl=tls, limit=buffer_bytes)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for connection in connections:
            # Python 3.11's TLS transport raises it where the connection is gone.
            with suppress(AttributeError):
                connection.transport.abort()
