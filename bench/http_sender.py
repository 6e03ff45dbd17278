"""CPU time of a delivery by `HttpSender` to a sink in another process: `python bench/http_sender.py`."""

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import statistics
import time
from typing import cast

import uvloop

from streams.adapters.http.sender import HttpSender
from streams.core.address import parse_networks
from streams.core.outcome import Response
from streams.core.request import USER_AGENT, Request

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
    """Responses whenever a request's body has come: each is one POST whose length is known."""

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


def sink(body_bytes: int, told: multiprocessing.connection.Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Sink(body_bytes), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def measure(port: int, asked: argparse.Namespace) -> list[tuple[float, float]]:
    """CPU µs and wall µs a delivery, for each run after one that warms up."""
    sender = HttpSender(parse_networks("127.0.0.0/8"))
    request = Request(f"http://127.0.0.1:{port}/webhooks", HEADERS, b"x" * asked.body_bytes)
    each = asked.deliveries // asked.in_flight
    millions = each * asked.in_flight / 1e6

    async def lane() -> None:
        for _ in range(each):
            response = await sender.send(request)
            assert isinstance(response, Response), response

    figures = []
    for _ in range(asked.runs + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(asked.in_flight)))
        figures.append(((time.process_time() - cpu) / millions, (time.perf_counter() - wall) / millions))
    await sender.close()
    return figures[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--body-bytes", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    heard, told = spawning.Pipe(duplex=False)
    process = spawning.Process(target=sink, args=(asked.body_bytes, told), daemon=True)
    process.start()
    figures = uvloop.run(measure(heard.recv(), asked))
    process.terminate()
    cpu, wall = ([round(figure, 1) for figure in column] for column in zip(*figures, strict=True))
    print(json.dumps({**vars(asked), "cpu_us": cpu, "cpu_us_median": statistics.median(cpu), "wall_us": wall}))


if __name__ == "__main__":
    main()
