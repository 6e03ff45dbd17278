"""POST by a real `HttpSender` to endpoints on loopback."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fakes import FakeTelemetry
from real.endpoint import Endpoint, Script, endpoint
from streams.adapters.http.proxy import EgressProxy
from streams.adapters.http.sender import HttpSender
from streams.adapters.lookups import Lookup
from streams.core.deliveries.outcome import Failure, Response
from streams.core.deliveries.request import Request
from streams.core.webhooks.address import parse_networks
from streams.outage import EGRESS_PROXY, Outages

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")
PATIENCE = 10.0
# How long to wait for what must not happen: long enough for a busy machine to connect.
SOON = 1.0


def post(to: Endpoint, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> Request:
    headers = {"Content-Type": "application/json", "User-Agent": "scorm-webhooks/1.0", "webhook-id": "evt_1"}
    return Request(f"{scheme}://{host}:{to.port}{path}", headers, b'{"id":"evt_1"}')


@asynccontextmanager
async def sending(**options: Any) -> AsyncIterator[HttpSender]:
    sender = HttpSender(**{"allowed_networks": LOOPBACK, "timeout_seconds": PATIENCE, **options})
    try:
        yield sender
    finally:
        await sender.close()


async def sent(script: Script, **options: Any) -> Response | Failure:
    """The result of one POST to an endpoint with this script."""
    async with endpoint(script) as there, sending(**options) as sender:
        return await sender.send(post(there))


def answered(result: Response | Failure) -> Response:
    assert isinstance(result, Response), result
    return result


def failed(result: Response | Failure) -> Failure:
    assert isinstance(result, Failure), result
    return result


def at(*addresses: str) -> Lookup:
    """A look-up that returns these addresses for every name."""

    async def lookup(host: str) -> Sequence[str]:
        return addresses

    return lookup


def proxy_at(port: int, telemetry: FakeTelemetry | None = None, **options: Any) -> EgressProxy:
    """A proxy on a port of this machine; `telemetry` gets its log lines."""
    return EgressProxy("127.0.0.1", port, Outages(telemetry or FakeTelemetry())[EGRESS_PROXY], **options)
