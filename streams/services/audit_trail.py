"""Make entries for the audit log."""

from collections.abc import Callable

from streams.core.audit import AuditEntry
from streams.ports import Clock


class AuditTrail:
    """`new_id` makes an id with a prefix."""

    def __init__(self, clock: Clock, new_id: Callable[[str], str]) -> None:
        self._clock = clock
        self._new_id = new_id

    def __call__(
        self, by: str, action: str, object_id: str, account_id: str | None = None, **details: object
    ) -> AuditEntry:
        """An entry for what `by` does now; details have the API's names."""
        present = {camel(name): value for name, value in details.items() if value is not None}
        return AuditEntry(self._new_id("audit"), by, action, object_id, self._clock.now(), account_id, present)


def camel(name: str) -> str:
    """`max_concurrency` → `maxConcurrency`."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
