"""Check the way to an endpoint, step by step, from this machine."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import typer

from scorm_webhooks_cli.connection_errors import no_response_reason
from scorm_webhooks_cli.exam_checks import sample_request
from scorm_webhooks_cli.output import JsonOption, show
from scorm_webhooks_cli.receiver_options import (
    DEFAULT_PLATFORM_HEADER,
    DEFAULT_USER_AGENT,
    AgentOption,
    HeaderOption,
    UrlArgument,
    checked_secret,
)
from scorm_webhooks_cli.text import say
from streams.core.deliveries.outcome import FIREWALL_MEANING, is_of_firewall
from streams.core.errors import Invalid
from streams.core.webhooks.address import is_allowed
from streams.core.webhooks.url import url_errors
from streams.ids import new_id

CONNECT_SECONDS, RESPONSE_SECONDS = 5.0, 10.0
MAX_ADDRESSES = 8
MIN_CERTIFICATE_DAYS = 14
REFUSED_EXIT_CODE, UNREACHABLE_EXIT_CODE = 1, 3
# Without these nothing comes to the endpoint.
_REACHING = ("name", "connection", "certificate")


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one step. `is_right` is None for a hint."""

    name: str
    is_right: bool | None
    message: str


def doctor(
    url: UrlArgument,
    secret: Annotated[
        str | None,
        typer.Option(envvar="WEBHOOK_SECRET", show_envvar=True, help="Sign the test event with this secret."),
    ] = None,
    platform_header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    user_agent: AgentOption = DEFAULT_USER_AGENT,
    as_json: JsonOption = False,
) -> None:
    """Check the way to an endpoint from this machine: its name, addresses, certificate, redirects, and a test event.

    Exit code 1 if something is wrong, and 3 if the endpoint cannot be reached.

    Example: `scorm-webhooks doctor https://crm.example.com/hooks`
    """
    if errors := url_errors("URL", url, allow_http=True):
        raise Invalid(*errors)
    signing_secret = checked_secret(secret) if secret else None
    steps: list[Check] = []
    for step in examine(url, signing_secret, platform_header, user_agent):
        steps.append(step)
        if not as_json:
            say(f"{_MARKS[step.is_right]:<5}  {step.name:<12} {step.message}")
    wrong = [step.name for step in steps if step.is_right is False]
    if as_json:
        rows = [{"name": step.name, "passed": step.is_right is not False, "message": step.message} for step in steps]
        show({"passed": not wrong, "failed": wrong, "steps": rows}, as_json)
    if wrong:
        raise typer.Exit(UNREACHABLE_EXIT_CODE if wrong[0] in _REACHING else REFUSED_EXIT_CODE)


_MARKS = {True: "right", False: "WRONG", None: "hint"}


def examine(url: str, secret: str | None, platform_header: str, user_agent: str) -> Iterator[Check]:
    """The steps, up to the first that stops the others."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme == "http":
        yield Check("scheme", None, "http: a platform accepts only https, unless its operator allows http for tests")
    try:
        addresses = _resolve(host, port)
    except OSError as error:
        yield Check("name", False, f"{host} does not resolve: {error.strerror or error}. Check its DNS records.")
        return
    yield Check("name", True, f"{host} resolves to {', '.join(addresses)}")
    if private := [address for address in addresses if not is_allowed(address)]:
        message = f"{', '.join(private)} is not public: a platform refuses it. For this machine use `listen`."
        yield Check("address", None, message)
    connected, failed = _connect(addresses, port)
    for address, reason in failed.items():
        yield Check("connection", bool(connected) and None, f"{address} port {port}: {reason}")
    if not connected:
        return
    yield Check("connection", True, f"port {port} of {', '.join(connected)} accepts connections")
    if parts.scheme == "https":
        step = _check_certificate(url, host, connected[0], port)
        yield step
        if step.is_right is False:
            return
    yield from _send_test(url, secret, platform_header, user_agent)


def _resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]


def _connect(addresses: Sequence[str], port: int) -> tuple[Sequence[str], Mapping[str, str]]:
    """The addresses that accept a connection, and why the others do not."""
    connected: list[str] = []
    failed: dict[str, str] = {}
    for address in addresses:
        try:
            socket.create_connection((address, port), CONNECT_SECONDS).close()
            connected.append(address)
        except TimeoutError:
            failed[address] = f"no answer within {CONNECT_SECONDS:g} seconds: does a firewall drop the packets?"
        except OSError as error:
            failed[address] = f"{error.strerror or error}: does the server run, and on this port?"
    return connected, failed


def _check_certificate(url: str, host: str, address: str, port: int) -> Check:
    """Whether the certificate is one that a platform accepts, and until when."""
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((address, port), CONNECT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as secure,
        ):
            certificate, version = secure.getpeercert() or {}, secure.version()
    except ssl.SSLCertVerificationError as error:
        return Check("certificate", False, f"{error.verify_message}. {_certificate_advice(error, host)}")
    except (OSError, ssl.SSLError) as error:
        reason = no_response_reason(url, error)
        advice = ". Does this port speak TLS 1.2 or newer?" if reason == str(error) else ""
        return Check("certificate", False, f"the TLS handshake failed: {reason}{advice}")
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days_left = (ends_at - datetime.now(UTC)) // timedelta(days=1)
    message = f"{version}, issued by {_issuer(certificate)}, ends on {ends_at:%Y-%m-%d}"
    if days_left < MIN_CERTIFICATE_DAYS:
        return Check("certificate", None, f"{message}: in {days_left} days. Renew it.")
    return Check("certificate", True, message)


# X509_V_ERR_… of OpenSSL.
_NO_ISSUER_CODES = (2, 20, 21)
_SELF_SIGNED_CODES = (18, 19)
_EXPIRED_CODE = 10
_WRONG_NAME_CODE = 62


def _certificate_advice(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _NO_ISSUER_CODES:
        return "The server sends no intermediate certificate, or its authority is not public: send the whole chain."
    if error.verify_code in _SELF_SIGNED_CODES:
        return "Take a certificate of a public authority."
    if error.verify_code == _EXPIRED_CODE:
        return "Renew it."
    if error.verify_code == _WRONG_NAME_CODE:
        return f"It must name {host}."
    return "Browsers refuse it too."


def _issuer(certificate: Mapping[str, Any]) -> str:
    names = {name: value for pairs in certificate.get("issuer", ()) for name, value in pairs}
    return str(names.get("organizationName") or names.get("commonName") or "an unnamed authority")


def _send_test(url: str, secret: str | None, platform_header: str, user_agent: str) -> Iterator[Check]:
    """Send one test event, as a platform sends it."""
    request = sample_request(secret, platform_header, new_id("evt"), datetime.now(UTC))
    began_at = time.monotonic()
    try:
        status, headers = asyncio.run(_post(url, {**request.headers, "User-Agent": user_agent}, request.body))
    except (TimeoutError, httpx2.TimeoutException):
        message = f"no response within {RESPONSE_SECONDS:g} seconds. Respond at once, and work afterwards."
        yield Check("response", False, message)
        return
    except httpx2.HTTPError as error:
        yield Check("response", False, f"no response: {no_response_reason(url, error)}")
        return
    seconds = time.monotonic() - began_at
    yield _judge(status, headers, is_signed=secret is not None)
    if seconds > RESPONSE_SECONDS / 2:
        yield Check("time", None, f"{seconds:.1f} seconds: after {RESPONSE_SECONDS:g} a platform gives up")


async def _post(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
    """The status and the headers of the response, all within the time."""
    async with (
        asyncio.timeout(RESPONSE_SECONDS),
        httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=RESPONSE_SECONDS) as client,
        client.stream("POST", url, content=body, headers=dict(headers)) as response,
    ):
        return response.status_code, dict(response.headers)


def _judge(status: int, headers: Mapping[str, str], *, is_signed: bool) -> Check:
    """What the status of the response means."""
    if 200 <= status < 300:
        if is_signed:
            return Check("response", True, f"{status}: the test event is accepted")
        return Check("response", None, f"{status}, though the request had no signature: verify it (docs/receiving.md)")
    if 300 <= status < 400:
        location = headers.get("location", "nowhere")
        return Check(
            "response", False, f"{status} to {location}: redirects are not followed. Register that URL instead."
        )
    if status in (401, 403) and not is_signed:
        return Check("response", True, f"{status}: a request without a signature is refused, as it must be")
    if is_of_firewall(status, headers):
        return Check("response", False, f"{status} and a web page: {FIREWALL_MEANING}")
    return Check("response", False, f"{status}. {_STATUS_ADVICE.get(status, 'The log of the server says why.')}")


_STATUS_ADVICE = {
    401: "Is --secret that of this webhook, and is the raw body verified? `scorm-webhooks verify` says which.",
    403: "Does a gateway before the server want credentials? The webhook's `auth` has them.",
    404: "Nothing is at this path: check the URL.",
    405: "The server takes no POST at this path.",
    410: "The webhook would be paused at once: 410 means that the endpoint is gone.",
    415: "Accept `application/json`.",
}
