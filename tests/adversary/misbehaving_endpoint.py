"""Misbehaving endpoints, each on a raw socket of 127.0.0.1."""

import contextlib
import gzip
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PART = b"x" * 65536
OK = b"HTTP/1.1 200 OK\r\n"
HUGE_BYTES = 100_000_000
INTERIM_ANSWERS = 20_000


@dataclass
class Connection:
    """One connection of our sender; `stopped` is set when the endpoint closes."""

    socket: socket.socket
    stopped: threading.Event

    def read_request(self) -> bytes:
        """Read the request, head and body."""
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += self._read()
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._read()
        return head + b"\r\n\r\n" + body

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def hang(self) -> None:
        """Keep the connection open until the endpoint closes."""
        self.stopped.wait()

    def _read(self) -> bytes:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the platform closed the connection")
        return part


Behaviour = Callable[[Connection], None]


@dataclass
class MisbehavingEndpoint:
    """Its address, and the number of accepted connections."""

    port: int = 0
    connections: int = 0

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def listening(behave: Behaviour) -> Iterator[MisbehavingEndpoint]:
    """An endpoint that treats each connection the same and closes it."""
    endpoint, stopped = MisbehavingEndpoint(), threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            endpoint.connections += 1
            # The sender may close a connection at any time.
            with contextlib.suppress(OSError):
                behave(Connection(self.request, stopped))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 512

    with Server(("127.0.0.1", 0), Handler) as server:
        endpoint.port = server.server_address[1]
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        serving.start()
        try:
            yield endpoint
        finally:
            stopped.set()
            server.shutdown()
            serving.join()


@contextlib.contextmanager
def never_accepting() -> Iterator[MisbehavingEndpoint]:
    """An endpoint with a full accept queue: no connection opens."""
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield MisbehavingEndpoint(server.getsockname()[1])


# -- time ----------------------------------------------------------------------------------------------------------


def is_silent(connection: Connection) -> None:
    connection.hang()


def reads_and_is_silent(connection: Connection) -> None:
    connection.read_request()
    connection.hang()


def answers_until(is_over: threading.Event) -> Behaviour:
    """It answers at once, and later is silent."""

    def answer(connection: Connection) -> None:
        connection.read_request()
        if is_over.is_set():
            connection.hang()
        else:
            connection.send(OK, b"Content-Length: 0\r\nConnection: close\r\n\r\n")

    return answer


def drips_its_response(connection: Connection) -> None:
    """Send one byte a second."""
    connection.read_request()
    connection.send(OK, b"Content-Length: 1000\r\n\r\n")
    while not connection.stopped.wait(1):
        connection.send(b".")


def drips_its_headers(connection: Connection) -> None:
    """Send one line a second."""
    connection.read_request()
    connection.send(OK)
    while not connection.stopped.wait(1):
        connection.send(b"X: y\r\n")


# -- size ----------------------------------------------------------------------------------------------------------


def sends_100_megabytes(connection: Connection) -> None:
    connection.read_request()
    connection.send(OK, b"Content-Length: %d\r\n\r\n" % HUGE_BYTES, *[PART] * (HUGE_BYTES // len(PART)))


def sends_without_end(connection: Connection) -> None:
    """Send chunks of one byte."""
    connection.read_request()
    connection.send(OK, b"Transfer-Encoding: chunked\r\n\r\n")
    while not connection.stopped.is_set():
        connection.send(b"1\r\nx\r\n" * 10_000)


def sends_a_gzip_bomb(connection: Connection) -> None:
    connection.read_request()
    bomb = _gzip_bomb()
    connection.send(OK, b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb)


def _gzip_bomb() -> bytes:
    """Expands to a thousand times its size."""
    return gzip.compress(bytes(10_000_000), 1)


def sends_a_megabyte_of_headers(connection: Connection) -> None:
    connection.read_request()
    connection.send(OK, b"X: " + b"y" * 1_000_000 + b"\r\n\r\n")


def sets_many_cookies(connection: Connection) -> None:
    connection.read_request()
    cookies = [b"Set-Cookie: c%d=%b; Path=/\r\n" % (number, b"v" * 8) for number in range(300)]
    connection.send(OK, b"".join(cookies), b"Content-Length: 0\r\n\r\n")


def sends_many_interim_responses(connection: Connection) -> None:
    connection.read_request()
    connection.send(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * INTERIM_ANSWERS, OK, b"Content-Length: 0\r\n\r\n"
    )


# -- order ---------------------------------------------------------------------------------------------------------


def closes_at_once(connection: Connection) -> None:
    pass


def closes_in_its_response(connection: Connection) -> None:
    connection.read_request()
    connection.send(OK, b"Content-Length: 1000\r\n\r\nhalf")


def responds_before_the_request(connection: Connection) -> None:
    connection.send(OK, b"Content-Length: 2\r\n\r\nok" * 3)
    connection.hang()


def responds_twice(connection: Connection) -> None:
    """The second response could be mistaken for that of the next request."""
    while True:
        connection.read_request()
        connection.send((OK + b"Content-Length: 2\r\n\r\nok") * 2)


# -- content -------------------------------------------------------------------------------------------------------


def responses(response: bytes) -> Behaviour:
    """Send the same bytes to each request."""

    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(response)

    return behave


ODD_TEXT = b"\x00\x1b[2J\r\x9b31m\xe2\x80\xae\xff\xfe\xc3"
JUNK = responses(bytes(range(256)) * 100)
ODD_BODY = responses(b"HTTP/1.1 500 \x1b[2J\r\nContent-Length: %d\r\n\r\n%b" % (len(ODD_TEXT) * 500, ODD_TEXT * 500))
ODD_HEADERS = responses(
    b"HTTP/1.1 500 Oops\r\nX-Odd: \x1b]0;pwned\x07\xff\xfe\xe2\x80\xae\r\nContent-Length: 0\r\n\r\n"
)
NUL_IN_A_HEADER = responses(b"HTTP/1.1 500 Oops\r\nX-Odd: a\x00b\r\nContent-Length: 0\r\n\r\n")
BAD_STATUS = responses(b"HTTP/1.1 999 \xff\r\nContent-Length: 0\r\n\r\n")
LONG_STATUS = responses(b"HTTP/1.1 " + b"2" * 100_000 + b" OK\r\n\r\n")
SWITCHES_PROTOCOL = responses(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
GONE = responses(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")


def asks_to_wait(seconds: str) -> Behaviour:
    return responses(f"HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n".encode())


def redirects_to(location: str) -> Behaviour:
    return responses(f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
