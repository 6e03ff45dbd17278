"""Requests through an egress proxy: what it gets, and how its failures differ from an endpoint's."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from adapters.test_http_local_shortage import no_descriptor_left

from builders import NOON
from fakes import FakeTelemetry, until
from real.connect_proxy import ESTABLISHED, connect_proxy
from real.endpoint import OK, Endpoint, Received, endpoint, saying, silent
from real.posting import SOON, answered, at, failed, post, proxy_at, sending
from real.process import free_ports
from real.tinyproxy import CREDENTIALS, Tinyproxy
from streams.core.deliveries.outcome import Failure, OutcomeKind, judge
from streams.core.errors import Unavailable


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def certificate(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def no_lookup(host: str) -> Sequence[str]:
    pytest.fail(f"{host} was looked up")


# -- a proxy that works ----------------------------------------------------------------------------------------


async def test_the_proxy_gets_the_checked_address(tinyproxy: Tinyproxy) -> None:
    proxy = proxy_at(tinyproxy.port, credentials=CREDENTIALS)
    async with endpoint() as there, sending(proxy=proxy, lookup=at("127.0.0.1")) as sender:
        answered(await sender.send(post(there, host="hooks.example")))
    assert f"CONNECT 127.0.0.1:{there.port} HTTP/1.1" in tinyproxy.requests
    assert there.requests[0].headers["host"] == f"hooks.example:{there.port}"
    assert "proxy-authorization" not in there.requests[0].headers


async def test_the_certificate_is_of_the_name(tinyproxy: Tinyproxy, authority: trustme.CA, ca_file: Path) -> None:
    options = {"proxy": proxy_at(tinyproxy.port, credentials=CREDENTIALS), "ca_file": ca_file}
    tls = certificate(authority, "hooks.example")
    async with endpoint(tls=tls) as there, sending(**options, lookup=at("127.0.0.1")) as sender:
        answered(await sender.send(post(there, scheme="https", host="hooks.example")))
        answered(await sender.send(post(there, scheme="https", host="hooks.example.")))
        other = failed(await sender.send(post(there, scheme="https", host="other.example")))
    assert other.kind is OutcomeKind.TLS
    assert "not valid for 'other.example'" in other.detail


async def test_a_connection_belongs_to_one_name(tinyproxy: Tinyproxy, authority: trustme.CA, ca_file: Path) -> None:
    options = {"proxy": proxy_at(tinyproxy.port, credentials=CREDENTIALS), "ca_file": ca_file}
    tls = certificate(authority, "hooks.example", "other.example")
    async with endpoint(tls=tls) as there, sending(**options, lookup=at("127.0.0.1")) as sender:
        for _ in range(3):
            answered(await sender.send(post(there, scheme="https", host="hooks.example")))
        assert there.connections == 1
        answered(await sender.send(post(there, scheme="https", host="other.example")))
        assert there.connections == 2


async def test_the_next_address_is_tried_through_the_proxy(tinyproxy: Tinyproxy) -> None:
    proxy = proxy_at(tinyproxy.port, credentials=CREDENTIALS)
    async with endpoint() as there, sending(proxy=proxy, lookup=at("127.0.0.2", "127.0.0.1")) as sender:
        answered(await sender.send(post(there, host="hooks.example")))


async def test_an_endpoint_that_refuses_is_not_reached(tinyproxy: Tinyproxy) -> None:
    (port,) = free_ports(1)
    async with sending(proxy=proxy_at(tinyproxy.port, credentials=CREDENTIALS)) as sender:
        failure = await sender.send(post(Endpoint(silent, port)))
    assert failure == Failure(OutcomeKind.CONNECT_TIMEOUT, "the egress proxy responded with 500")


async def test_many_requests_at_a_time(tinyproxy: Tinyproxy) -> None:
    proxy = proxy_at(tinyproxy.port, credentials=CREDENTIALS)
    async with endpoint() as there, sending(proxy=proxy) as sender:
        results = await asyncio.gather(*(sender.send(post(there)) for _ in range(50)))
    assert {answered(result).status for result in results} == {200}


async def test_the_proxys_own_address_is_no_endpoint(tinyproxy: Tinyproxy) -> None:
    proxy = proxy_at(tinyproxy.port, credentials=CREDENTIALS)
    async with sending(proxy=proxy, allowed_networks=()) as sender:
        failure = failed(await sender.send(post(Endpoint(silent, tinyproxy.port))))
    assert failure == Failure(OutcomeKind.FORBIDDEN_ADDRESS, "127.0.0.1")


# -- a proxy that fails ----------------------------------------------------------------------------------------

WRONG_RESPONSES = {
    b"HTTP/1.1 403 Filtered\r\n\r\n": "it responded with 403",
    b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n": "it responded with 302",
    b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": "it responded with 407: check "
    "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS",
    b"SSH-2.0-OpenSSH_9.9\r\n\r\n": "it sent something other than an HTTP response",
    b"HTTP/1.1 200\x00OK\r\n\r\n": "it sent something other than an HTTP response",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000: "it sent something other than an HTTP response",
    b"HTTP/1.1 2": "it closed the connection before it responded",
    b"": "it closed the connection before it responded",
}


@pytest.mark.parametrize("response", WRONG_RESPONSES, ids=lambda response: response[:12].decode() or "nothing")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_response_of_the_proxy_blames_the_endpoint(scheme: str, response: bytes) -> None:
    async with endpoint() as there, endpoint(saying(response, close=True)) as wrong:
        proxy = proxy_at(wrong.port, credentials=CREDENTIALS)
        async with sending(proxy=proxy, lookup=at("127.0.0.1")) as sender:
            failure = failed(await sender.send(post(there, scheme=scheme, host="hooks.example")))
    assert failure == Failure(OutcomeKind.PROXY_ERROR, WRONG_RESPONSES[response])
    assert there.connections == 0


def test_the_message_says_whom_to_ask_and_no_secret() -> None:
    message = judge(Failure(OutcomeKind.PROXY_ERROR, "it responded with 403"), NOON, 10).message
    assert message == (
        "The platform's egress proxy opened no connection to the endpoint (it responded with 403). "
        "This does not count against the webhook. Ask the platform's operator."
    )


async def test_a_proxy_that_is_down_is_logged_once_without_secrets() -> None:
    telemetry = FakeTelemetry()
    (port,) = free_ports(1)
    down = proxy_at(port, telemetry, credentials=CREDENTIALS)
    async with endpoint() as there, sending(proxy=down) as sender:
        for _ in range(2):
            failure = await sender.send(post(there))
            assert failure == Failure(OutcomeKind.PROXY_ERROR, "it could not be reached: Connection refused")
    assert telemetry.logged == [
        ("egress_proxy_unavailable", {"why": f"127.0.0.1:{port} could not be reached: Connection refused"})
    ]
    assert CREDENTIALS.partition(":")[2] not in f"{telemetry.logged} {down}"


async def test_the_log_says_when_the_proxy_works_again() -> None:
    telemetry = FakeTelemetry()
    async with (
        endpoint() as there,
        connect_proxy(there.port, b"nonsense\r\n\r\n") as proxy,
        sending(proxy=proxy_at(proxy.port, telemetry)) as sender,
    ):
        failed(await sender.send(post(there)))
        proxy.response = ESTABLISHED
        answered(await sender.send(post(there)))
    assert [event for event, _ in telemetry.logged] == ["egress_proxy_unavailable", "egress_proxy_available"]


async def test_a_refusal_of_one_endpoint_is_no_outage_of_the_proxy() -> None:
    telemetry = FakeTelemetry()
    refusing = saying(b"HTTP/1.1 403 Filtered\r\n\r\n")
    async with endpoint(refusing) as wrong, sending(proxy=proxy_at(wrong.port, telemetry)) as sender:
        failed(await sender.send(post(wrong)))
    assert telemetry.logged == []


async def test_a_proxy_that_hangs_blames_no_endpoint() -> None:
    async with endpoint(silent) as hanging, sending(proxy=proxy_at(hanging.port), timeout_seconds=SOON) as sender:
        failure = await sender.send(post(hanging))
    assert failure == Failure(OutcomeKind.PROXY_ERROR, "it did not respond in time")


async def test_a_proxy_that_responds_to_others_waits_for_the_endpoint() -> None:
    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if b"CONNECT 127.0.0.1:1 " not in request.head:
            writer.write(b"HTTP/1.1 403 Filtered\r\n\r\n")

    async with endpoint(script) as proxy, sending(proxy=proxy_at(proxy.port), timeout_seconds=2 * SOON) as sender:
        waiting = asyncio.create_task(sender.send(post(Endpoint(silent, 1))))
        await until(lambda: bool(proxy.requests))
        failed(await sender.send(post(Endpoint(silent, 2))))
        assert await waiting == Failure(OutcomeKind.CONNECT_TIMEOUT)


async def test_a_proxy_whose_name_does_not_resolve() -> None:
    unknown = replace(proxy_at(3128), host="proxy.invalid")
    async with endpoint() as there, sending(proxy=unknown) as sender:
        failure = failed(await sender.send(post(there)))
    assert failure.kind is OutcomeKind.PROXY_ERROR
    assert failure.detail.startswith("it could not be reached: ")


async def test_a_shortage_of_this_machine_is_not_the_proxys() -> None:
    telemetry = FakeTelemetry()
    async with endpoint() as there, sending(proxy=proxy_at(there.port, telemetry)) as sender:
        with no_descriptor_left(), pytest.raises(Unavailable, match="Too many open files"):
            await sender.send(post(there))
    assert telemetry.logged == []


# -- a proxy that lies -----------------------------------------------------------------------------------------


async def test_a_proxy_that_leads_elsewhere_gets_no_request(authority: trustme.CA, ca_file: Path) -> None:
    impostor_tls = certificate(trustme.CA(), "hooks.example")
    async with endpoint(tls=impostor_tls) as impostor, connect_proxy(impostor.port) as proxy:
        options: dict[str, Any] = {"ca_file": ca_file, "lookup": at("127.0.0.1"), "proxy": proxy_at(proxy.port)}
        async with sending(**options) as sender:
            failure = failed(await sender.send(post(impostor, scheme="https", host="hooks.example")))
            # Nothing shows yet that the proxy is at fault, or that it is not.
            assert failure.kind is OutcomeKind.PROXY_ERROR
            assert (
                failure.detail
                == "it has not led to any valid TLS connection yet: unable to get local issuer certificate"
            )
            tls = certificate(authority, "hooks.example")
            async with endpoint(tls=tls) as there:
                proxy.destination = there.port
                answered(await sender.send(post(there, scheme="https", host="hooks.example")))
            proxy.destination = impostor.port
            failure = failed(await sender.send(post(impostor, scheme="https", host="other.example")))
            assert failure == Failure(OutcomeKind.TLS, "unable to get local issuer certificate")
    assert impostor.requests == []


async def test_a_proxy_that_speaks_no_tls_gets_no_request() -> None:
    async with (
        endpoint() as plain,
        connect_proxy(plain.port, ESTABLISHED + OK) as proxy,
        sending(proxy=proxy_at(proxy.port), lookup=at("127.0.0.1")) as sender,
    ):
        failure = failed(await sender.send(post(plain, scheme="https", host="hooks.example")))
    assert failure.kind is OutcomeKind.PROXY_ERROR
    assert failure.detail.endswith("something was sent before the TLS handshake")
    assert plain.requests == []


async def test_bytes_before_a_request_are_not_its_response() -> None:
    async with (
        endpoint() as there,
        connect_proxy(there.port, ESTABLISHED + OK) as proxy,
        sending(proxy=proxy_at(proxy.port)) as sender,
    ):
        failure = failed(await sender.send(post(there)))
    assert failure.kind is OutcomeKind.INVALID_RESPONSE
    assert there.requests == []


# -- a proxy that resolves names -------------------------------------------------------------------------------


async def test_a_resolving_proxy_gets_the_name() -> None:
    async with endpoint() as there, connect_proxy(there.port) as proxy:
        resolving = proxy_at(proxy.port, resolves_names=True)
        async with sending(proxy=resolving, lookup=no_lookup, allowed_networks=()) as sender:
            answered(await sender.send(post(there, host="Hooks.Example.")))
    assert proxy.requests == [
        f"CONNECT hooks.example:{there.port} HTTP/1.1\r\nHost: hooks.example:{there.port}\r\n\r\n".encode()
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "x.localhost."])
async def test_addresses_in_urls_are_checked_for_a_resolving_proxy(host: str) -> None:
    async with endpoint() as there, connect_proxy(there.port) as proxy:
        resolving = proxy_at(proxy.port, resolves_names=True)
        async with sending(proxy=resolving, lookup=no_lookup, allowed_networks=()) as sender:
            failure = failed(await sender.send(post(there, host=host)))
    assert failure.kind is OutcomeKind.FORBIDDEN_ADDRESS
    assert proxy.requests == []
