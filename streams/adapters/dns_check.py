"""Check the addresses of a webhook's host when the webhook is registered or changed."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from streams.adapters.lookups import Lookup, Lookups
from streams.core.webhooks.address import Network, is_allowed, literal_address
from streams.ports.delivery import DnsResult

TIMEOUT_SECONDS = 2.0

FORBIDDEN_MESSAGE = (
    "resolves to an address that is not public; use a public URL, "
    "or ask the operator to allow that network (SCORM_WEBHOOKS_ALLOWED_NETWORKS)"
)


async def look_up_literal(host: str) -> Sequence[str]:
    """A look-up for a process that resolves no names: it returns IP addresses as they are, and nothing for a name."""
    address = literal_address(host)
    return [address] if address else []


class SystemDnsCheck:
    """A `DnsCheck` by the system's resolver. Each delivery checks the address again."""

    def __init__(self, allowed_networks: Sequence[Network], lookup: Lookup | None = None) -> None:
        self._allowed_networks = allowed_networks
        self._lookups = Lookups(lookup)

    async def check(self, url: str, account_id: str) -> DnsResult:
        try:
            host = urlsplit(url).hostname
            async with asyncio.timeout(TIMEOUT_SECONDS):
                addresses = await self._lookups.ask(host, account_id) if host else ()
        except (OSError, ValueError):  # TimeoutError is an OSError
            return DnsResult(resolves=False)
        is_forbidden = not all(is_allowed(address, self._allowed_networks) for address in addresses)
        return DnsResult(FORBIDDEN_MESSAGE if is_forbidden else None)
