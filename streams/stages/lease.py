"""Hold a lease: only one process of a deployment does this work."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from streams.core.encryption import WrongKeys
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages
from streams.ports.delivery import EncryptionCheck
from streams.ports.runtime import ProcessLease, Telemetry
from streams.tasks import run_until_first_ends


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """The seconds between renewals, and between attempts to take the lease."""

    renew_interval: float = 3.0
    # A connection may be dead unnoticed. Two renewals fit into a lease.
    renewal_timeout: float = 4.0
    retry: float = 1.0


class LeaseLost(ScormWebhooksError):
    """Another process holds the lease. This process must stop before it does the same work."""


class LeaseKeeper:
    """Takes a lease, and renews it until it is lost. A process with wrong keys neither takes nor keeps it."""

    def __init__(
        self,
        lease: ProcessLease,
        keys: EncryptionCheck,
        telemetry: Telemetry,
        outages: Outages,
        times: LeaseTimes = LeaseTimes(),
    ) -> None:
        self._lease = lease
        self._keys = keys
        self._telemetry = telemetry
        self._outages = outages
        self._times = times

    async def hold(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Wait until this process holds the lease, then run `parts` together. Raises `LeaseLost`."""
        await self._take()
        try:
            await run_until_first_ends(self._keep_renewing, self._watch_keys, *parts)
        finally:
            with suppress(Unavailable):
                await self._lease.release()

    async def check(self) -> None:
        """Renew the lease now. Raises `LeaseLost`."""
        if not await self._try_renew():
            raise LeaseLost("another process took the lease over")

    async def _take(self) -> None:
        is_reported = False
        # Another process may have the right keys.
        await self._outages.retry(self._keys.require_right_keys, self._times.retry, ENCRYPTION_KEYS, DATABASE)
        while not await self._try_renew():
            if not is_reported:
                self._telemetry.info("lease_held_elsewhere")
            is_reported = True
            await asyncio.sleep(self._times.retry)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._times.renew_interval)
            await self.check()

    async def _watch_keys(self) -> None:
        """Raise `LeaseLost` if the keys became wrong. It waits for the database, which must not delay a renewal."""
        while True:
            await asyncio.sleep(self._times.renew_interval)
            try:
                await self._keys.require_right_keys()
            except WrongKeys as error:
                # Another process may have the right keys.
                raise LeaseLost(str(error)) from None
            except Unavailable:
                pass  # A renewal logs it.

    async def _try_renew(self) -> bool:
        return await self._outages.retry(self._renew, self._times.retry, ENCRYPTION_KEYS, DATABASE)

    async def _renew(self) -> bool:
        renewal = asyncio.ensure_future(self._lease.renew())
        try:
            await asyncio.wait({renewal}, timeout=self._times.renewal_timeout)
            if renewal.done():
                return await renewal
        finally:
            if not renewal.done():
                # The driver waits for the server even after this. The next renewal has another connection.
                renewal.add_done_callback(lambda task: task.cancelled() or task.exception())
                renewal.cancel()
        raise Unavailable("the database does not answer in time")
