"""The health port answers probes, whatever other clients do."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
import uvloop
from prometheus_client import CollectorRegistry

from streams.build import build_version
from streams.runtime import health_server
from streams.runtime.sockets import listen
from streams.settings import load_settings

ALIVE, READY, METRICS = (
    f"GET /{page} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for page in ("healthz", "readyz", "metrics")
)


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(health_server, "CONNECTION_TIMEOUT_SECONDS", 0.5)

    async def ready() -> list[str]:
        return []

    async with health_server.serve_health(listen("127.0.0.1", 0, "HEALTH"), ready, CollectorRegistry()) as port:
        yield port


@pytest.mark.parametrize("start", [b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"])
async def test_a_connection_ends_in_time(port: int, start: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(start)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
    writer.close()


async def test_readyz_says_that_the_proxy_checks_addresses() -> None:
    async def ready() -> list[str]:
        return []

    proxy = {"SCORM_WEBHOOKS_EGRESS_PROXY": "http://proxy:3128", "SCORM_WEBHOOKS_EGRESS_PROXY_RESOLVES": "true"}
    notes, listener = load_settings(proxy).notes, listen("127.0.0.1", 0, "HEALTH")
    async with (
        health_server.serve_health(listener, ready, CollectorRegistry(), notes) as port,
        httpx.AsyncClient() as client,
    ):
        response = await client.get(f"http://127.0.0.1:{port}/readyz")
    note = "the egress proxy decides which addresses endpoints may have"
    assert response.text == f"ready\n{build_version()}\n{note}\n"
    assert load_settings({}).notes == []


async def test_a_connection_serves_one_request(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(5):
        response = await reader.read()
    assert b"connection: close" in response.lower()
    writer.close()


async def test_slow_connections_below_the_limit_all_stay() -> None:
    async def ready() -> list[str]:
        return []

    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            health_server.serve_health(listen("127.0.0.1", 0, "HEALTH"), ready, CollectorRegistry())
        )
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in connections:
            stack.callback(writer.close)
            writer.write(b"GET /healthz HTTP/1.1\r\n")
            await writer.drain()
        async with asyncio.timeout(5):
            for reader, writer in reversed(connections):
                writer.write(b"Host: a\r\n\r\n")
                assert (await reader.read()).endswith(b"ok\n")


async def test_idle_connections_do_not_keep_probes_out(port: int) -> None:
    with contextlib.ExitStack() as stack:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(health_server.MAX_CONNECTIONS * 3):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                assert (await client.get("/healthz")).status_code == 200


def test_it_serves_on_uvloop_too() -> None:
    async def response() -> bytes:
        async def ready() -> list[str]:
            return []

        async with health_server.serve_health(listen("127.0.0.1", 0, "HEALTH"), ready, CollectorRegistry()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(5):
                return await reader.read()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(response()).endswith(f"ready\n{build_version()}\n".encode())


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /readyz?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: " + b"a" * health_server.MAX_HEAD_BYTES, 431),
    ],
)
async def test_a_request_has_its_status(port: int, request_head: bytes, status: int) -> None:
    assert (await response_to(port, request_head)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_head_request_has_no_body(port: int) -> None:
    response = await response_to(port, b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 3\r\n" in response
    assert response.endswith(b"\r\n\r\n")


async def test_a_page_that_fails_is_an_error_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> list[str]:
        raise ValueError("broken")

    async with health_server.serve_health(listen("127.0.0.1", 0, "HEALTH"), broken, CollectorRegistry()) as port:
        assert b" 500 " in await response_to(port, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in await response_to(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert "broken" in caplog.text


async def test_a_client_may_close_its_side_after_the_request(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"ok\n")
    writer.close()


async def test_a_loop_that_does_not_turn_is_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "HANGING_SECONDS", 0.5)
    monkeypatch.setattr(health_server, "READINESS_SECONDS", 0.1)
    monkeypatch.setattr(health_server, "METRICS_SECONDS", 0.1)
    assert (await response_to(port, READY)).startswith(b"HTTP/1.1 200")
    found: list[tuple[bytes, list[int]]] = []
    hung = threading.Event()

    def probe() -> None:
        deadline = time.monotonic() + 20
        while not hung.is_set() and time.monotonic() < deadline:
            answers = [asyncio.run(response_to(port, head)) for head in (ALIVE, READY, METRICS)]
            found.append((answers[0].rpartition(b"\r\n")[2], [int(answer.split()[1]) for answer in answers]))
            if found[-1][1] == [503, 503, 503]:
                hung.set()

    thread = threading.Thread(target=probe)
    thread.start()
    assert hung.wait(20)
    thread.join()
    # As ready as before while it is only busy.
    assert found[0][1][:2] == [200, 200]
    assert re.fullmatch(rb"the event loop has not turned for \d+ s\n", found[-1][0])
    async with asyncio.timeout(10):
        while not (await response_to(port, READY)).startswith(b"HTTP/1.1 200"):
            pass


async def test_a_process_that_cannot_say_whether_it_is_ready_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a supervisor whose process is frozen: its own loop turns."""
    monkeypatch.setattr(health_server, "READINESS_SECONDS", 0.1)
    monkeypatch.setattr(health_server, "ANSWER_SECONDS", 0.2)
    may_answer = asyncio.Event()
    may_answer.set()

    async def asks() -> list[str]:
        await may_answer.wait()
        return []

    async with health_server.serve_health(listen("127.0.0.1", 0, "HEALTH"), asks, CollectorRegistry()) as port:
        assert (await response_to(port, READY)).startswith(b"HTTP/1.1 200")
        may_answer.clear()
        response = await response_to(port, READY)
        assert response.startswith(b"HTTP/1.1 503")
        assert b"no answer within 0.2 s" in response
        may_answer.set()
        assert (await response_to(port, READY)).startswith(b"HTTP/1.1 200")


async def response_to(port: int, request_head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_head)
    async with asyncio.timeout(5):
        response = await reader.read()
    writer.close()
    return response
