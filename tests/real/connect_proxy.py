"""A proxy that leads every CONNECT to one port of this machine, whatever it was asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from real.endpoint import listening

ESTABLISHED = b"HTTP/1.0 200 Connection established\r\n\r\n"


@dataclass
class ConnectProxy:
    """`destination` is the port, and may change. `response` precedes what that port sends."""

    destination: int
    response: bytes = ESTABLISHED
    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.destination)
            writer.write(self.response)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def connect_proxy(destination: int, response: bytes = ESTABLISHED) -> AsyncIterator[ConnectProxy]:
    """A proxy during the block."""
    proxy = ConnectProxy(destination, response)
    async with listening(proxy.serve) as proxy.port:
        yield proxy
