"""Limits on connections, on a real server with short timeouts."""

import asyncio
import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
import uvloop

from api.public_files import PIECE_BYTES
from rest.server import Server
from rest.test_events import COMPLETED
from streams.adapters.http_server.connection_limits import ConnectionLimits
from streams.core.queues.request_class import RequestClass

pytestmark = pytest.mark.slow

LIMITS = ConnectionLimits(
    connections=20,
    reserve=4,
    header_seconds=0.3,
    body_seconds=0.5,
    idle_seconds=0.4,
    write_seconds=0.5,
    linger_seconds=0.3,
)
ENOUGH_SECONDS = 30.0
# For what is about sizes: a slow machine must not reach a time limit first.
PATIENT = replace(LIMITS, header_seconds=60, body_seconds=60, idle_seconds=60, write_seconds=60)
HEAD = b"Host: api.example.com\r\n"


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(f"sqlite:///{tmp_path_factory.mktemp('connections')}/db.sqlite", LIMITS, request.param)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def patient_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(f"sqlite:///{tmp_path_factory.mktemp('patient')}/db.sqlite", PATIENT, request.param)
    yield server
    server.stop()


def await_reason(server: Server, reason: str) -> None:
    """Wait until a connection is closed for this reason: the client may read the response before."""
    deadline = time.monotonic() + ENOUGH_SECONDS
    while reason not in server.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reason in server.closed
    server.closed.clear()


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), ENOUGH_SECONDS) as client:
        yield client


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return bytes(received)


def respond(server: Server, request: bytes) -> bytes:
    with connected(server) as client:
        client.sendall(request)
        return read_all(client)


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1]) if response else 0


def await_no_connections(server: Server) -> None:
    deadline = time.monotonic() + ENOUGH_SECONDS
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open_connections == 0


def await_connections(server: Server, count: int) -> None:
    deadline = time.monotonic() + ENOUGH_SECONDS
    while server.open_connections < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open_connections == count


def await_places(server: Server, count: int, request_class: RequestClass = RequestClass.PUBLISH) -> None:
    """Wait until this number of requests of a class is in progress."""
    places, deadline = server.api.app.state.places, time.monotonic() + ENOUGH_SECONDS
    while places.in_use()[request_class] != count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert places.in_use()[request_class] == count


def await_health(server: Server) -> None:
    """Wait until a probe is answered: a slow server may accept earlier connections only now."""
    deadline = time.monotonic() + ENOUGH_SECONDS
    while (response := httpx.get(f"{server.url}/healthz")).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert response.status_code == 200


def send_repeatedly(client: socket.socket, part: bytes, size: int, *, until_response: bool = True) -> None:
    """Send; stop when there is a response, because a reset after it would make the client lose it."""
    with contextlib.suppress(ConnectionError):
        for _ in range(size // len(part)):
            if until_response and select.select([client], [], [], 0)[0]:
                return
            client.sendall(part)


# -- size ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.1\r\n" + HEAD, b"GET / HTTP/1.1\r\n" + HEAD + b"X-One: ", b"GET /", b"\r\n"],
    ids=["many lines", "one line", "a long URL", "empty lines"],
)
def test_headers_over_64_kib_get_431(patient_server: Server, start: bytes) -> None:
    part = {b"GET / HTTP/1.1\r\n" + HEAD: b"X-Header: value\r\n", b"\r\n": b"\r\n"}.get(start, b"x")
    with connected(patient_server) as client:
        client.sendall(start)
        send_repeatedly(client, part * (8192 // len(part)), 8 * 1024 * 1024)
        response = read_all(client)
    assert status(response) == 431
    assert b"/docs/problems#headers-too-large" in response
    assert b"connection: close" in response.lower()


def test_headers_in_one_packet_count_too(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\n" + HEAD + b"X-A: " + b"x" * 65536 + b"\r\n\r\n"
    assert status(respond(server, request)) == 431
    lines = b"".join(b"X-%d: y\r\n" % n for n in range(120))
    assert status(respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + lines + b"\r\n")) == 431


@pytest.mark.parametrize("response_first", [False, True], ids=["at once", "after the response"])
def test_a_body_without_an_end_is_cut_off(patient_server: Server, response_first: bool) -> None:
    with connected(patient_server) as client:
        client.sendall(b"POST /healthz HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        if response_first:
            assert client.recv(65536).startswith(b"HTTP/1.1 405")
        # The application may respond before the body is too large: only the end of the connection counts.
        send_repeatedly(client, b"2000\r\n" + b"x" * 8192 + b"\r\n", 32 * 1024 * 1024, until_response=False)
        read_all(client)
    await_reason(patient_server, "too_large")


def test_a_trailer_is_limited_too(patient_server: Server) -> None:
    with connected(patient_server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ")
        # The response may come before the trailer has an end.
        send_repeatedly(client, b"x" * 65536, 32 * 1024 * 1024, until_response=False)
        read_all(client)
    await_reason(patient_server, "too_large")


# -- time ------------------------------------------------------------------------------------------------------


def test_a_silent_connection_is_closed(server: Server) -> None:
    with connected(server) as client:
        assert read_all(client) == b""


@pytest.mark.parametrize(
    "request_start",
    [b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: api", b"\r\n"],
    ids=["half a line", "half the headers", "an empty line"],
)
def test_half_headers_get_408(server: Server, request_start: bytes) -> None:
    response = respond(server, request_start)
    assert status(response) == 408
    assert b'"/docs/problems#timeout"' in response


def test_half_a_body_gets_408(server: Server) -> None:
    head = b"POST /v1/webhooks HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer %b\r\n" % key(server)
    assert status(respond(server, head + b"Content-Length: 10\r\n\r\n{")) == 408
    assert status(respond(server, head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")) == 408


def test_a_client_that_disconnects_is_not_logged_as_error(server: Server) -> None:
    head = b"POST /v1/webhooks HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer %b\r\n" % key(server)
    assert status(respond(server, head + b"Idempotency-Key: one\r\nContent-Length: 10\r\n\r\n{")) == 408
    await_no_connections(server)
    assert "request_crashed" not in {fact for fact, _ in server.api.telemetry.logged}
    assert 499 in {ids.get("status") for _, ids in server.api.telemetry.logged}


def key(server: Server) -> bytes:
    assert server.api.acme.key
    return server.api.acme.key.encode()


def test_dripped_headers_do_not_extend_the_time(server: Server) -> None:
    began = time.monotonic()
    with connected(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n" + HEAD)
        client.settimeout(0.02)
        while time.monotonic() - began < ENOUGH_SECONDS:
            with contextlib.suppress(TimeoutError):
                assert status(client.recv(65536)) == 408
                break
            client.sendall(b"X: y\r\n")
    assert time.monotonic() - began < 2


def test_an_idle_connection_is_closed_after_a_response(server: Server) -> None:
    response = respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert status(response) == 200
    assert response.endswith(b"ok\n")


def test_an_endless_body_is_not_idle(server: Server) -> None:
    response = respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\n\r\nab")
    assert status(response) == 200
    await_no_connections(server)


def test_a_client_that_does_not_read_is_dropped(server: Server) -> None:
    request = b"GET /docs/api/swagger-ui-bundle.js HTTP/1.1\r\n" + HEAD + b"\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(ENOUGH_SECONDS)
        client.connect(("127.0.0.1", server.port))
        client.sendall(request * 3)
        await_reason(server, "slow_reader")
    await_no_connections(server)


# -- number ----------------------------------------------------------------------------------------------------


def test_a_new_connection_closes_the_one_that_waits_longest(patient_server: Server) -> None:
    server = patient_server
    await_no_connections(server)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(LIMITS.connections + LIMITS.reserve)]
        await_connections(server, len(silent))
        response = respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n")
        assert status(response) == 200
        await_reason(server, "too_many_connections")
        assert read_all(silent[0]) == b""
        assert not select.select(silent[1:], [], [], 0)[0]
    await_no_connections(server)


def test_a_client_that_sends_its_body_slowly_makes_room(patient_server: Server) -> None:
    server = patient_server
    await_no_connections(server)
    head = b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer %b\r\n" % key(server)
    with contextlib.ExitStack() as stack:
        for _ in range(LIMITS.connections + LIMITS.reserve):
            client = stack.enter_context(connected(server))
            client.sendall(head + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        await_connections(server, LIMITS.connections + LIMITS.reserve)
        await_health(server)
    await_no_connections(server)


def test_a_client_that_does_not_read_makes_room(patient_server: Server) -> None:
    server = patient_server
    request = b"GET /docs/api/assets/swagger-ui-bundle.js HTTP/1.1\r\n" + HEAD + b"\r\n"
    await_no_connections(server)
    with contextlib.ExitStack() as stack:
        for _ in range(LIMITS.connections + LIMITS.reserve):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(request * 3)
        # Once each response fills its client's buffers.
        await_health(server)
    await_no_connections(server)


def test_a_connection_beyond_busy_ones_gets_503(patient_server: Server) -> None:
    server = patient_server
    await_no_connections(server)
    head = b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer %b\r\n" % key(server)
    body = json.dumps(COMPLETED).encode()
    with contextlib.ExitStack() as stack:
        # Each waits for Kafka, in a place of its account.
        server.call(server.api.kafka.leave)
        stack.callback(server.call, server.api.kafka.come_back)
        for _ in range(LIMITS.connections + LIMITS.reserve):
            client = stack.enter_context(connected(server))
            client.sendall(head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await_places(server, LIMITS.connections + LIMITS.reserve)
        response = respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert status(response) == 503
        assert b"Retry-After: 5" in response
        for _ in range(60):
            with connected(server) as client:
                read_all(client)
    await_no_connections(server)
    await_health(server)


def test_a_hundred_partial_requests_do_not_stop_the_api(server: Server) -> None:
    starts = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\nX",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
    ]
    with contextlib.ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(connected(server))
            with contextlib.suppress(ConnectionError):
                client.sendall(starts[number % len(starts)])
        await_no_connections(server)
        await_health(server)


def test_too_many_pipelined_requests_close_the_connection(server: Server) -> None:
    response = respond(server, (b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n") * 2000)
    assert 1 <= response.count(b"HTTP/1.1 200") <= LIMITS.pipelined_requests + 1
    few = respond(server, (b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n") * 5)
    assert few.count(b"HTTP/1.1 200") == 5


# -- malformed HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /h\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    ],
)
def test_a_malformed_request_gets_400(server: Server, request_: bytes) -> None:
    response = respond(server, request_)
    assert status(response) == 400
    assert b"application/problem+json" in response


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: " + b"9" * 31,
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, gzip",
    ],
)
def test_a_wrong_length_gets_400(server: Server, framing: bytes) -> None:
    response = respond(server, b"POST /v1/webhooks HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\nhello")
    assert status(response) == 400
    assert response.count(b"HTTP/1.1") == 1


def test_a_trailer_does_not_authenticate(server: Server) -> None:
    trailer = b"Authorization: Bearer %b\r\n" % key(server)
    head = (
        b"POST /v1/webhooks HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    response = respond(server, head + b"\r\n2\r\n{}\r\n0\r\n" + trailer + b"\r\n")
    assert status(response) == 401


def test_an_upgrade_request_is_not_upgraded(server: Server) -> None:
    for protocol in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\nSec-WebSocket-Key: a\r\n\r\n" % protocol
        response = respond(server, b"GET /healthz HTTP/1.1\r\n" + HEAD + upgrade + b"GET / HTTP/1.1\r\n")
        assert status(response) == 200
        assert response.count(b"HTTP/1.1") == 1


def test_a_client_may_wait_for_100_continue(server: Server) -> None:
    head = b"POST /v1/webhooks HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer %b\r\n" % key(server)
    with connected(server) as client:
        client.sendall(head + b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert status(client.recv(65536)) == 100
        client.sendall(b"{}")
        assert status(client.recv(65536)) == 422


def test_a_client_that_reads_no_file_takes_little_memory(patient_server: Server) -> None:
    request = b"GET /docs/api/swagger-ui-bundle.js HTTP/1.1\r\n" + HEAD + b"\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(PATIENT.connections):
            client = stack.enter_context(connected(patient_server))
            client.sendall(request * 8)
        await_places(patient_server, PATIENT.connections, RequestClass.PUBLIC)
        assert patient_server.most_unsent_bytes <= 3 * PIECE_BYTES
    await_places(patient_server, 0, RequestClass.PUBLIC)
