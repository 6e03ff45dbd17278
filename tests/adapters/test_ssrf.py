"""No name, redirect or timing leads to a connection to a forbidden address."""

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from real.endpoint import endpoint, saying
from real.posting import proxy_at
from real.tinyproxy import CREDENTIALS
from streams.adapters import lookups
from streams.adapters.http.sender import HttpSender
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import Request
from streams.core.webhooks.address import parse_networks

NOWHERE = {OutcomeKind.FORBIDDEN_ADDRESS, OutcomeKind.UNSENDABLE, OutcomeKind.DNS}
PUBLIC = "93.184.215.14"
# A loopback address that the test allows, for the first request. 127.0.0.1 stays forbidden.
OUTSIDE = "127.0.0.2"
OPENED = parse_networks(f"{OUTSIDE}/32")


class InternalServer:
    """A listener on every address of this machine. No test may connect to it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()

    @property
    def connected(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def internal() -> Iterator[InternalServer]:
    listening = InternalServer()
    yield listening
    assert not listening.connected
    listening.close()


def to(url: str, headers: dict[str, str] | None = None) -> Request:
    return Request(url, headers or {}, b"{}")


class Sending(Protocol):
    """Makes a sender whose look-ups return these addresses in turn, and then the last ones."""

    def __call__(self, *responses: Sequence[str], **options: Any) -> AbstractAsyncContextManager[HttpSender]: ...


@pytest.fixture(params=["direct", pytest.param("tinyproxy", marks=pytest.mark.real)])
def sending(request: pytest.FixtureRequest) -> Sending:
    """A sender that connects to endpoints itself, and one whose proxy does."""
    proxy = None
    if request.param == "tinyproxy":
        proxy = proxy_at(request.getfixturevalue("tinyproxy").port, credentials=CREDENTIALS)

    @asynccontextmanager
    async def made(*responses: Sequence[str], **options: Any) -> AsyncIterator[HttpSender]:
        left = list(responses)

        async def lookup(host: str) -> Sequence[str]:
            return left.pop(0) if len(left) > 1 else left[0]

        sender = HttpSender(lookup=lookup if responses else None, proxy=proxy, **options)
        try:
            yield sender
        finally:
            await sender.close()

    return made


def test_the_trap_works(internal: InternalServer) -> None:
    for address in ("127.0.0.1", OUTSIDE, "::1"):
        socket.create_connection((address, internal.port)).close()
        assert internal.connected


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://127.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://017700000001:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://0x7f.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://0:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://[0:0:0:0:0:0:0:1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[::127.0.0.1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://[::1%25lo]:{port}/",
        "http://[::1%lo]:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST:{port}/",
        "http://localhost.:{port}/",
        "http://localhost..:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://ⓛocalhost:{port}/",
        "http://127。0。0。1:{port}/",
        "http://%6c%6f%63alhost:{port}/",
        "http://user:password@127.0.0.1:{port}/",
        "http://example.com@127.0.0.1:{port}/",
        "http://example.com\\@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@example.com/",
        "http://127.0.0.1:{port}#@example.com/",
        "http://example.com#@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}?@example.com/",
        "http:127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/\r\nX: y",
        "http://127.0.0.1\r\n:{port}/",
        "http://127.0.0.1\t:{port}/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:25/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://168.63.129.16/machine",
        "http://100.100.100.200/latest/meta-data/",
        "gopher://127.0.0.1:{port}/_x",
        "file:///etc/passwd",
        "ws://127.0.0.1:{port}/",
        "tcp://127.0.0.1:{port}/",
        "unix:///var/run/docker.sock",
    ],
)
async def test_hosts_that_lead_inside(internal: InternalServer, sending: Sending, url: str) -> None:
    async with sending() as sender:
        result = await sender.send(to(url.format(port=internal.port)))
    assert isinstance(result, Failure)
    assert result.kind in NOWHERE


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "fd00::1"],
        ["::1", PUBLIC],
        [OUTSIDE, "127.0.0.1"],
        [OUTSIDE, "::1"],
        ["localhost"],
    ],
)
async def test_a_name_is_refused_if_any_of_its_addresses_is_forbidden(
    internal: InternalServer, sending: Sending, addresses: list[str]
) -> None:
    async with sending(addresses, allowed_networks=OPENED) as sender:
        result = await sender.send(to(f"http://rebound.example:{internal.port}/"))
    assert result == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "rebound.example")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://127.0.0.1:{port}/", "//localhost:{port}/", "http://[::1]:{port}/"])
async def test_a_redirect_inside(internal: InternalServer, sending: Sending, status: int, where: str) -> None:
    url = where.format(port=internal.port)
    headers = f"Location: {url}\r\nRefresh: 0; url={url}\r\nContent-Length: 0"
    script = saying(f"HTTP/1.1 {status} Moved\r\n{headers}\r\n\r\n".encode())
    async with endpoint(script, host=OUTSIDE) as there, sending(allowed_networks=OPENED) as sender:
        result = await sender.send(to(f"http://{OUTSIDE}:{there.port}/"))
    assert isinstance(result, Response)
    assert result.status == status


@pytest.fixture
def _has_no_dns_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "CACHE_SECONDS", 0)


@pytest.mark.usefixtures("_has_no_dns_cache")
async def test_the_addresses_that_were_checked_are_those_connected_to(
    internal: InternalServer, sending: Sending
) -> None:
    """The addresses of the first look-up are used, so that a second look-up cannot change them."""
    async with (
        endpoint(host=OUTSIDE) as there,
        sending([OUTSIDE], ["127.0.0.1"], allowed_networks=OPENED) as sender,
    ):
        assert isinstance(await sender.send(to(f"http://rebound.example:{there.port}/")), Response)
        result = await sender.send(to(f"http://rebound.example:{internal.port}/"))
    assert result == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "rebound.example")


@pytest.mark.usefixtures("_has_no_dns_cache")
async def test_keep_alive_does_not_hide_a_change_of_dns(internal: InternalServer, sending: Sending) -> None:
    now = [0.0]
    responses = ([OUTSIDE], ["127.0.0.1"])
    async with (
        endpoint(host=OUTSIDE) as there,
        sending(*responses, allowed_networks=OPENED, monotonic=lambda: now[0]) as sender,
    ):
        request = to(f"http://moving.example:{there.port}/")
        assert isinstance(await sender.send(request), Response)
        while now[0] < 48:
            now[0] += 4
            assert isinstance(await sender.send(request), Response)  # on the open connection
        now[0] = 60
        assert await sender.send(request) == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "moving.example")
    assert there.connections == 1


@pytest.mark.usefixtures("_has_no_dns_cache")
async def test_a_repetition_is_checked_like_a_first_time(internal: InternalServer, sending: Sending) -> None:
    async with (
        endpoint(host=OUTSIDE) as there,
        sending([OUTSIDE], ["127.0.0.1"], allowed_networks=OPENED) as sender,
    ):
        request = to(f"http://rebound.example:{there.port}/")
        assert isinstance(await sender.send(request), Response)
        there.script = saying(b"", close=True)
        assert await sender.send(request) == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "rebound.example")
    assert len(there.requests) == 2


async def test_a_proxy_of_the_environment_inside(
    internal: InternalServer, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{internal.port}")
    monkeypatch.setenv("no_proxy", "")
    async with endpoint(host=OUTSIDE) as there, sending([OUTSIDE], allowed_networks=OPENED) as sender:
        assert isinstance(await sender.send(to(f"http://hooks.example:{there.port}/")), Response)


async def test_a_host_header_changes_nothing(internal: InternalServer, sending: Sending) -> None:
    async with endpoint(host=OUTSIDE) as there, sending([OUTSIDE], allowed_networks=OPENED) as sender:
        url = f"http://hooks.example:{there.port}/"
        await sender.send(to(url, {"Host": f"127.0.0.1:{internal.port}", "X-Forwarded-Host": "localhost"}))


@pytest.mark.parametrize("opened", ["", "10.0.0.0/8", "::1/128", "127.0.0.2/31"])
async def test_only_opened_networks_are_allowed(internal: InternalServer, sending: Sending, opened: str) -> None:
    async with sending(allowed_networks=parse_networks(opened)) as sender:
        result = await sender.send(to(f"http://127.0.0.1:{internal.port}/"))
    assert result == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "127.0.0.1")
