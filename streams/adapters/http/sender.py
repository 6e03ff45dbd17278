"""Send the POST of one attempt: the signed bytes, within one deadline."""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path

from yarl import URL

from streams.adapters.certificates import trust_ca_file
from streams.adapters.http.connector import ConnectTrace, GuardedConnector
from streams.adapters.http.exchange import PostExchange, RequestTarget
from streams.adapters.http.failures import failure_of
from streams.adapters.http.local_shortage import DnsProbe, shortage_of
from streams.adapters.http.proxy import EgressProxy, ProxiedConnector
from streams.adapters.lookups import Lookup
from streams.core.deliveries.outcome import Failure, Response
from streams.core.deliveries.request import Request
from streams.core.errors import Unavailable
from streams.core.webhooks.address import Network
from streams.core.webhooks.url import url_errors

TIMEOUT_SECONDS = 10.0
# No attempt begins on an older connection: with the default timeout, none is used after 60 seconds, with the longest of
# a webhook after 80. It does not depend on the timeout, so keep-alive works with every timeout.
CONNECTION_LIFE_SECONDS = 50.0
MAX_CACHED_TARGETS = 1024
# In use and idle together. The limit of open files may lower it.
MAX_CONNECTIONS = 4096


class HttpSender:
    """A `Sender` that connects to public addresses, and to the `allowed_networks` of the operator.

    `timeout_seconds` limits a whole attempt, from the look-up of the name to the last byte of the response, unless
    the request has a timeout of its own. `ca_file` is trusted in addition to the system's authorities; nothing turns
    verification off. `lookup` replaces the system's resolver. While `dns_probe_host` does not resolve, a failed look-
    up is not the endpoint's fault. All requests go through `proxy`, if there is one. No more than `connections` are
    open at once. Raises `Misconfigured` if `ca_file` cannot be used.
    """

    def __init__(
        self,
        allowed_networks: Sequence[Network] = (),
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        ca_file: Path | None = None,
        lookup: Lookup | None = None,
        dns_probe_host: str | None = None,
        proxy: EgressProxy | None = None,
        connections: int = MAX_CONNECTIONS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed_networks = allowed_networks
        self._timeout_seconds = timeout_seconds
        self._tls = _tls_context(ca_file)
        self._lookup = lookup
        self._dns_probe_host = dns_probe_host
        self._proxy = proxy
        self._connections = connections
        self._monotonic = monotonic
        self._cached_target = lru_cache(MAX_CACHED_TARGETS)(_to_target)

    async def send(self, request: Request) -> Response | Failure:
        deadline = asyncio.get_running_loop().time() + (request.timeout_seconds or self._timeout_seconds)
        trace = ConnectTrace(deadline, request.account_id)
        try:
            return await self._exchange.send(self._cached_target(request.url), request, trace)
        except Unavailable:
            raise
        except Exception as error:
            if shortage := shortage_of(error):
                raise Unavailable(shortage) from error
            if trace.waits_for_lookup and isinstance(error, TimeoutError):
                raise Unavailable("too many look-ups of host names wait for their name servers") from error
            failure = failure_of(error, trace)
        if shortage := await self._dns_probe.find_local_cause(failure):
            raise Unavailable(shortage)
        return failure

    async def close(self) -> None:
        """Close all connections. Call it after every attempt has ended."""
        if "_exchange" in self.__dict__:
            await self._exchange.close()

    @cached_property
    def _exchange(self) -> PostExchange:
        # Needs the running loop, so the first attempt makes it.
        return PostExchange(self._connector, CONNECTION_LIFE_SECONDS, self._monotonic, self._connections)

    @cached_property
    def _connector(self) -> GuardedConnector:
        new_connector = GuardedConnector if self._proxy is None else partial(ProxiedConnector, self._proxy)
        return new_connector(self._allowed_networks, self._tls, self._lookup, self._monotonic)

    @cached_property
    def _dns_probe(self) -> DnsProbe:
        return DnsProbe(self._dns_probe_host, self._connector.lookups, self._monotonic)


@cache
def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    trust_ca_file(context, ca_file)
    return context


def _to_target(url: str) -> RequestTarget:
    """The target of a URL, which stays exactly as registered. Raises ValueError for an invalid URL."""
    if errors := url_errors("url", url, allow_http=True):
        raise ValueError(f"the URL {errors[0].message}")
    return RequestTarget(URL(url, encoded=True))
