"""A receiver stops reading at 1 MiB, whether it verifies a signature or not."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from adversary.raw_http import connected, read_all, send_repeatedly, status
from builders import SECRET
from examples.events import completed
from examples.program import Program

pytestmark = pytest.mark.slow

MEBIBYTE = 1024 * 1024
HEAD = b"POST / HTTP/1.1\r\nHost: receiver\r\n"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program("warehouse", tmp_path, {"WEBHOOK_SECRET": SECRET})
    running.start()
    yield running
    running.stop()
    assert "Traceback" not in running.log()


def test_a_large_body_that_is_announced_is_not_read(program: Program) -> None:
    with connected(program.port) as client:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (300 * MEBIBYTE))
        response = read_all(client)
    assert status(response) == 413


def test_a_large_body_without_a_length_is_not_read(program: Program) -> None:
    with connected(program.port) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with suppress(ConnectionError):
            while sent < 300 * MEBIBYTE:
                client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        # What the sockets of both sides hold is above the limit.
        assert sent < 32 * MEBIBYTE
    assert program.post(completed(1)) == 204


@pytest.mark.parametrize(("size", "expected"), [(MEBIBYTE, 401), (MEBIBYTE + 1, 413)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_limit_is_a_mebibyte(program: Program, size: int, expected: int, is_chunked: bool) -> None:
    with connected(program.port) as client:
        if is_chunked:
            begin, end = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size, b"\r\n0\r\n\r\n"
        else:
            begin, end = b"Content-Length: %d\r\n\r\n" % size, b""
        with suppress(ConnectionError):
            client.sendall(HEAD + b"Connection: close\r\n" + begin)
            send_repeatedly(client, b"x" * size, size)
            client.sendall(end)
        assert status(read_all(client)) == expected
