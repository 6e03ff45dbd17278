"""Send raw bytes to the API's port, and read the response."""

import contextlib
import socket
from collections.abc import Iterator

SECONDS = 20.0


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        yield client


def exchange(port: int, request: bytes) -> bytes:
    """Read until the server closes the connection."""
    with connected(port) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            received += part
    return bytes(received)


def send_repeatedly(client: socket.socket, part: bytes, size: int) -> None:
    """Send `size` bytes, or fewer if the server closes the connection."""
    with contextlib.suppress(ConnectionError):
        for _ in range(size // len(part)):
            client.sendall(part)


def status(response: bytes) -> int:
    """The status of the first response; 0 without a response."""
    return int(response.split(b" ", 2)[1]) if response else 0
