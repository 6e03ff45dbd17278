"""What surrounds the stages: telemetry, the clock, leases."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol


class Telemetry(Protocol):
    """Metrics by their declared names, and log events with fields."""

    @property
    def is_debug_enabled(self) -> bool:
        """Whether debug events are written. Ask before an event for each record."""

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def gauge_all(self, metric: str, values: Mapping[tuple[str, ...], float], /) -> None:
        """Replace all values of a gauge, by the values of its labels in their declared order."""

    def observe(self, metric: str, value: float, /) -> None: ...

    def debug(self, event: str, /, **fields: object) -> None:
        """Each attempt, each record."""

    def info(self, event: str, /, **fields: object) -> None:
        """The life of a process."""

    def warning(self, event: str, /, **fields: object) -> None:
        """What heals by itself, but somebody should know."""

    def error(self, event: str, /, **fields: object) -> None:
        """What needs a person."""


class Clock(Protocol):
    """The time now, aware and in UTC."""

    def now(self) -> datetime: ...


class Lease(Protocol):
    """At most one process holds a lease at a time, for as long as it renews it."""

    async def renew(self) -> bool:
        """Take or keep the lease. False when another process holds it."""

    async def release(self) -> None: ...
