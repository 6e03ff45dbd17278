"""Where the host name of a URL leads, asked when a webhook is registered."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from streams.core.address import Network, is_allowed

PATIENCE_SECONDS = 2.0
LOOKUP_THREADS = 32

FORBIDDEN = (
    "leads to an address that is not public: webhooks may not reach it "
    "(an operator opens networks by SCORM_WEBHOOKS_ALLOWED_NETWORKS)"
)


class SystemDnsCheck:
    """`DnsCheck` by the system's resolver. A name that leads nowhere yet is let pass: each delivery looks again."""

    def __init__(
        self, opened: Sequence[Network], lookup: Callable[[str], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        self._opened = opened
        # Of their own: names whose servers are silent must not keep other work waiting.
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, "lookup")
        self._lookup = lookup or self._ask_system

    async def problem(self, url: str) -> str | None:
        try:
            host = urlsplit(url).hostname
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await self._lookup(host) if host else ()
        except (OSError, ValueError):  # a time-out is an OSError too
            return None
        for address in found:
            if not is_allowed(address, self._opened):
                return FORBIDDEN
        return None

    async def _ask_system(self, host: str) -> Sequence[str]:
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(address[0]) for *_, address in found]
