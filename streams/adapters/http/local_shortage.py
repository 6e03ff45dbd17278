"""Detect failures that are caused by this machine, not by the endpoint."""

import asyncio
import errno
import math
import socket
import time
from collections.abc import Callable

from aiohttp import ClientConnectorError

from streams.adapters.lookups import Lookups
from streams.core.deliveries.outcome import Failure, OutcomeKind

# No endpoint can cause these: this machine has no descriptor, memory or buffer left.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# A look-up opens a file and up to two sockets.
DESCRIPTORS_PER_LOOKUP = 3
PROBE_CACHE_SECONDS = 5.0
CONTROL_TIMEOUT_SECONDS = 2.0


def shortage_of(error: BaseException) -> str | None:
    """The resource that this machine lacks. None if the error means something else."""
    reason = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(reason, MemoryError):
        return "no memory is left"
    if isinstance(reason, RuntimeError) and "start new thread" in str(reason):
        return "no thread can be started"
    if isinstance(reason, OSError) and reason.errno in _SHORTAGES:
        return str(reason.strerror)
    return None


class DnsProbe:
    """Decides whether a failed look-up is this machine's fault.

    It is if no descriptor is left, or if the name of the probe does not resolve either.

    `name` is a name that always resolves. Without one, a failed look-up is the endpoint's. The result is cached.
    If any other name resolved after this one failed, the name servers work and this name is wrong.
    """

    def __init__(
        self,
        name: str | None,
        lookups: Lookups,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._lookups = lookups
        self._monotonic = monotonic
        self._checked_at = -math.inf
        self._failing_since: float | None = None

    async def find_local_cause(self, failure: Failure) -> str | None:
        """Why the failure is this machine's. None if it is the endpoint's."""
        if failure.kind is not OutcomeKind.DNS:
            return None
        if not _can_open(DESCRIPTORS_PER_LOOKUP):
            return "no file descriptor is left for a look-up"
        if self._name is None:
            return None
        now = self._monotonic()
        if now - self._checked_at >= PROBE_CACHE_SECONDS:
            self._checked_at = now
            if await self._resolves(self._name):
                self._failing_since = None
            elif self._failing_since is None:
                self._failing_since = now
        if self._failing_since is None or self._lookups.resolved_at > self._failing_since:
            return None
        return f"{self._name} does not resolve either"

    async def _resolves(self, name: str) -> bool:
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_SECONDS):
                return bool(await self._lookups.ask(name, ""))
        except (OSError, TimeoutError):
            return False


def _can_open(count: int) -> bool:
    sockets: list[socket.socket] = []
    try:
        sockets += (socket.socket() for _ in range(count))
    except OSError:
        return False
    finally:
        for descriptor in sockets:
            descriptor.close()
    return True
