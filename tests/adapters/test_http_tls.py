"""Certificates and handshakes, valid and invalid."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from real.endpoint import Received, endpoint, listening
from real.posting import SOON, answered, at, failed, post, sending
from streams.adapters.http.sender import HttpSender
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import Request
from streams.core.errors import Misconfigured


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def sent_by_tls(tls: ssl.SSLContext, ca_file: Path | None) -> Response | Failure:
    async with endpoint(tls=tls) as there, sending(ca_file=ca_file, lookup=at("127.0.0.1")) as sender:
        result = await sender.send(post(there, scheme="https", host="hooks.example"))
        again = await sender.send(post(there, scheme="https", host="hooks.example"))
        assert result == again
        assert there.connections == 1 or isinstance(result, Failure)
        return result


async def test_a_certificate_of_the_given_authority(authority: trustme.CA, ca_file: Path) -> None:
    answered(await sent_by_tls(serving(authority.issue_cert("hooks.example")), ca_file))


async def test_the_system_does_not_know_that_authority(authority: trustme.CA) -> None:
    failure = await sent_by_tls(serving(authority.issue_cert("hooks.example")), None)
    assert failure == Failure(OutcomeKind.TLS, "unable to get local issuer certificate")


async def test_a_certificate_of_another_host(authority: trustme.CA, ca_file: Path) -> None:
    failure = failed(await sent_by_tls(serving(authority.issue_cert("other.example")), ca_file))
    assert failure.kind is OutcomeKind.TLS
    assert "not valid for 'hooks.example'" in failure.detail


async def test_an_expired_certificate(authority: trustme.CA, ca_file: Path) -> None:
    expired = authority.issue_cert("hooks.example", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    assert await sent_by_tls(serving(expired), ca_file) == Failure(OutcomeKind.TLS, "certificate has expired")


async def test_a_certificate_that_ends_soon_is_noted(authority: trustme.CA, ca_file: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(days=13)).replace(microsecond=0)
    ending = authority.issue_cert("hooks.example", not_after=soon)
    assert answered(await sent_by_tls(serving(ending), ca_file)).certificate_ends_at == soon
    later = authority.issue_cert("hooks.example", not_after=soon + timedelta(days=2))
    assert answered(await sent_by_tls(serving(later), ca_file)).certificate_ends_at is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_older_than_1_2(authority: trustme.CA, ca_file: Path) -> None:
    context = serving(authority.issue_cert("hooks.example"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert failed(await sent_by_tls(context, ca_file)).kind is OutcomeKind.TLS


async def refusing(request: Received, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("a TLS hello is no request")


@pytest.mark.parametrize("message", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["plain http", "nothing"])
async def test_https_to_a_port_that_does_not_speak_it(message: bytes) -> None:
    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(message)
        writer.close()

    async with listening(response) as port, sending() as sender:
        failure = failed(await sender.send(Request(f"https://127.0.0.1:{port}/", {}, b"")))
    assert failure.kind is OutcomeKind.TLS
    assert failure.detail == (
        "this port does not speak TLS" if message else "the connection was closed during the handshake"
    )


async def test_an_endless_handshake_is_a_failure_of_tls() -> None:
    async with endpoint() as there, sending(timeout_seconds=SOON) as sender:
        failure = await sender.send(post(there, scheme="https"))
    assert failure == Failure(OutcomeKind.TLS, "the handshake did not end in time")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(Misconfigured, match=r"^SCORM_WEBHOOKS_CA_FILE: .*ca.pem must hold certificates"):
        HttpSender(ca_file=tmp_path / "ca.pem")
