"""Check the addresses of a webhook's host when the webhook is registered or changed."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from streams.core.webhooks.address import Network, is_allowed, literal_address
from streams.ports.delivery import DnsResult

TIMEOUT_SECONDS = 2.0
LOOKUP_THREADS = 32

FORBIDDEN_MESSAGE = (
    "resolves to an address that is not public; use a public URL, "
    "or ask the operator to allow that network (SCORM_WEBHOOKS_ALLOWED_NETWORKS)"
)


async def look_up_literal(host: str) -> Sequence[str]:
    """A look-up for a process that resolves no names: the addresses of a host that is one, and none of a name."""
    address = literal_address(host)
    return [address] if address else []


class SystemDnsCheck:
    """A `DnsCheck` by the system's resolver. Each delivery checks the address again."""

    def __init__(
        self, allowed_networks: Sequence[Network], lookup: Callable[[str], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        self._allowed_networks = allowed_networks
        # A separate pool: silent name servers must not block other work.
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, "lookup")
        self._lookup = lookup or self._resolve

    async def check(self, url: str) -> DnsResult:
        try:
            host = urlsplit(url).hostname
            async with asyncio.timeout(TIMEOUT_SECONDS):
                addresses = await self._lookup(host) if host else ()
        except (OSError, ValueError):  # TimeoutError is an OSError
            return DnsResult(resolves=False)
        is_forbidden = not all(is_allowed(address, self._allowed_networks) for address in addresses)
        return DnsResult(FORBIDDEN_MESSAGE if is_forbidden else None)

    async def _resolve(self, host: str) -> Sequence[str]:
        resolve = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        addresses = await asyncio.get_running_loop().run_in_executor(self._threads, resolve)
        return [str(address[0]) for *_, address in addresses]
