"""Each step on the way to an endpoint says what is wrong there, and what to do."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from typer.testing import CliRunner, Result

from adversary.misbehaving_endpoint import Connection, drips_its_headers, listening
from builders import SECRET
from scorm_webhooks_cli.doctor import _judge
from streams.cli.app import app


def sends_interim_responses_without_end(connection: Connection) -> None:
    connection.read_request()
    while True:
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        connection.stopped.wait(0.05)


@contextmanager
def endpoint(status: int, *, certificate: trustme.LeafCert | None = None, location: str = "") -> Iterator[int]:
    """An endpoint on loopback with this status; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def doctor(url: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", url, *options])


def test_a_good_endpoint_is_right_with_the_hints_of_a_local_one() -> None:
    with endpoint(204) as port:
        done = doctor(f"http://127.0.0.1:{port}/hook", "--secret", SECRET, "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["passed"], result["failed"]) == (0, True, [])
    assert [step["name"] for step in result["steps"]] == ["scheme", "name", "address", "connection", "response"]
    assert "is not public" in result["steps"][2]["message"]


def test_a_closed_port_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = doctor(f"http://127.0.0.1:{port}/hook")
    assert done.exit_code == 3
    assert "does the server run, and on this port?" in done.output


def test_a_name_that_does_not_resolve_is_the_end() -> None:
    done = doctor("https://nowhere.invalid/hook")
    assert (done.exit_code, "does not resolve" in done.output) == (3, True)


def test_a_response_without_end_takes_no_longer_than_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte of its headers comes in time, and so does each interim response."""
    monkeypatch.setattr("scorm_webhooks_cli.doctor.RESPONSE_SECONDS", 0.3)
    began_at = time.monotonic()
    with listening(sends_interim_responses_without_end) as interim, listening(drips_its_headers) as dripping:
        for one in (interim, dripping):
            done = doctor(one.url("/hook"))
            assert (done.exit_code, "no response" in done.output) == (1, True), done.output
    assert time.monotonic() - began_at < 5


def test_a_refusal_by_a_firewall_is_named() -> None:
    step = _judge(403, {"content-type": "text/html"}, is_signed=True)
    assert (step.is_right, "probably a firewall" in step.message) == (False, True)


def test_the_platforms_user_agent_may_be_sent() -> None:
    heard: list[bytes] = []
    with listening(lambda connection: heard.append(connection.read_request())) as there:
        doctor(there.url("/hook"), "--user-agent", "acme-learning/2")
    assert b"user-agent: acme-learning/2" in b"".join(heard).lower()


def test_a_redirect_names_its_target() -> None:
    with endpoint(302, location="https://elsewhere.example.com/") as port:
        done = doctor(f"http://127.0.0.1:{port}/hook", "--secret", SECRET)
    assert done.exit_code == 1
    assert "302 to https://elsewhere.example.com/: redirects are not followed" in done.output


@pytest.mark.parametrize(
    ("days", "hostname", "words"),
    [(30, "localhost", "its authority is not public"), (30, "other.example.com", "is not public")],
)
def test_a_certificate_of_a_private_authority_is_refused(days: int, hostname: str, words: str) -> None:
    leaf = trustme.CA().issue_cert(hostname, not_after=datetime.now(UTC) + timedelta(days=days))
    with endpoint(204, certificate=leaf) as port:
        done = doctor(f"https://localhost:{port}/hook")
    assert (done.exit_code, words in done.output) == (3, True), done.output


@pytest.mark.parametrize(
    ("days", "hostname", "words"),
    [
        (30, "localhost", "right  certificate"),
        (5, "localhost", "in 4 days. Renew it."),
        (-1, "localhost", "certificate has expired. Renew it."),
        (30, "other.example.com", "It must name localhost."),
    ],
)
def test_a_certificate_has_its_verdict(
    days: int, hostname: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert(hostname, not_after=datetime.now(UTC) + timedelta(days=days))
    file = f"{tmp_path}/ca.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", file)
    with endpoint(204, certificate=leaf) as port:
        done = doctor(f"https://localhost:{port}/hook", "--secret", SECRET)
    assert words in done.output, done.output


@pytest.mark.parametrize(
    ("status", "is_signed", "is_right"),
    [
        (200, True, True),
        (200, False, None),
        (401, False, True),
        (401, True, False),
        (404, True, False),
        (410, True, False),
    ],
)
def test_a_status_means_more_with_a_signature(status: int, is_signed: bool, is_right: bool | None) -> None:
    assert _judge(status, {}, is_signed=is_signed).is_right is is_right
