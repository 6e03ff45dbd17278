"""An endpoint that records requests and responds as the test sets."""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

from e2e.system import until


@dataclass(frozen=True)
class Received:
    """One received request; `number` counts the requests of its path, from 1."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    number: int


@dataclass(frozen=True)
class Response:
    """What an endpoint says beside the status."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Listens on loopback; `responses[path]` returns the status or a `Response`, else it is 200."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._at: defaultdict[str, list[Received]] = defaultdict(list)
        self.responses: dict[str, Callable[[Received], int | Response]] = {}
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                response = receiver._take(self.path, dict(self.headers.items()), body)
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            # The default of five would refuse a burst of connections.
            request_queue_size = 512

            def handle_error(self, request: object, client_address: object) -> None:
                """Ignore broken connections: a killed sender leaves them."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def at(self, path: str) -> list[Received]:
        """The requests received at a path, in order."""
        with self._lock:
            return list(self._at[path])

    def ids(self, path: str) -> list[str]:
        return [header(request, "webhook-id") for request in self.at(path)]

    def has_got(self, count: int) -> bool:
        """Whether more than `count` requests were received, at any path."""
        return len(self.requests) > count

    def has_some(self, path: str, event_id: str) -> bool:
        return event_id in self.ids(path)

    def wait_for(self, path: str, event_ids: set[str], seconds: float = 60) -> None:
        """Wait for exactly these events, each at least once; AssertionError with the difference at the deadline."""

        def difference() -> str:
            got = set(self.ids(path))
            return f"{path} misses {sorted(event_ids - got)} and has {sorted(got - event_ids)} beyond"

        until(lambda: set(self.ids(path)) == event_ids, seconds, difference)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        with self._lock:
            request = Received(path, headers, body, monotonic(), len(self._at[path]) + 1)
            self._at[path].append(request)
            self.requests.append(request)
        scripted = self.responses.get(path)
        response = scripted(request) if scripted else 200
        return Response(response) if isinstance(response, int) else response


def header(request: Received, name: str) -> str:
    return next(value for key, value in request.headers.items() if key.lower() == name.lower())
