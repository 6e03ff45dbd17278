"""The HTTP client of `deliver` alone, sending to a server in another process."""

import asyncio
import multiprocessing
import multiprocessing.connection
import statistics
import time
from typing import Annotated, cast

import typer
import uvloop

from bench.stack import say
from streams.adapters.http.sender import HttpSender
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import USER_AGENT, Request
from streams.core.webhooks.address import parse_networks

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "X-AllureConnect-Signature": "0" * 64,
    "webhook-id": "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1",
    "webhook-timestamp": "1775831520",
    "webhook-signature": "v1," + "A" * 44,
    "webhook-attempt": "1",
}


class Sink(asyncio.Protocol):
    """Responds after each request body; it knows the length of the POSTs."""

    def __init__(self, body_bytes: int) -> None:
        self.body_bytes = body_bytes
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head >= 0 and len(self.received) >= head + 4 + self.body_bytes:
            self.received = b""
            self.transport.write(ANSWER)


def sink(body_bytes: int, connection: multiprocessing.connection.Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Sink(body_bytes), "127.0.0.1", 0)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def http_sender(
    deliveries: Annotated[int, typer.Option(help="Requests of each run.")] = 20_000,
    in_flight: Annotated[int, typer.Option(help="Concurrent requests.")] = 64,
    body_bytes: Annotated[int, typer.Option(help="Bytes of a body.")] = 500,
    runs: Annotated[int, typer.Option(help="Runs, after one for warm-up.")] = 5,
) -> dict[str, object]:
    """CPU and time of a request by `HttpSender` alone."""
    spawning = multiprocessing.get_context("spawn")
    heard, connection = spawning.Pipe(duplex=False)
    process = spawning.Process(target=sink, args=(body_bytes, connection), daemon=True)
    process.start()
    figures = uvloop.run(_measure(heard.recv(), deliveries // in_flight, in_flight, body_bytes, runs))
    process.terminate()
    cpu, wall = ([round(figure, 1) for figure in column] for column in zip(*figures, strict=True))
    return say(
        {},
        experiment="http-sender",
        cpu_us=cpu,
        cpu_us_median=statistics.median(cpu),
        wall_us=wall,
        wall_us_median=statistics.median(wall),
    )


async def _measure(port: int, each: int, in_flight: int, body_bytes: int, runs: int) -> list[tuple[float, float]]:
    """CPU µs and wall-clock µs a request, for each run after a warm-up."""
    sender = HttpSender(parse_networks("127.0.0.0/8"))
    request = Request(f"http://127.0.0.1:{port}/webhooks", HEADERS, b"x" * body_bytes)
    millions = each * in_flight / 1e6

    async def send_in_turn() -> None:
        for _ in range(each):
            response = await sender.send(request)
            assert isinstance(response, Response), response

    figures = []
    for _ in range(runs + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(send_in_turn() for _ in range(in_flight)))
        figures.append(((time.process_time() - cpu) / millions, (time.perf_counter() - wall) / millions))
    await sender.close()
    return figures[1:]
