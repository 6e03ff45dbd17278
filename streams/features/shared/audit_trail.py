"""Make entries for the audit log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.core.audit import AuditEntry
from streams.core.request import MASK
from streams.ids import new_id
from streams.ports import Clock

# Longer lists are shortened: an entry must not grow with the largest scope.
ITEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Masked:
    """A value that the audit log does not show, as its ciphertext; None when there is none."""

    ciphertext: str | None


def new_entry(
    clock: Clock, actor: str, action: str, object_id: str, account_id: str | None = None, **details: object
) -> AuditEntry:
    """An entry for what `actor` does now; details have the API's names."""
    present = {camel(name): value for name, value in details.items() if value is not None}
    return AuditEntry(new_id("audit"), actor, action, object_id, clock.now(), account_id, present)


def camel(name: str) -> str:
    """`max_concurrency` → `maxConcurrency`."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def differences(previous: Mapping[str, object], updated: Mapping[str, object]) -> Mapping[str, object]:
    """The fields that differ, each with its old and its new value, by their names in the API."""
    return {
        camel(name): {"from": _audited_value(value), "to": _audited_value(updated[name])}
        for name, value in previous.items()
        if value != updated[name]
    }


def _audited_value(value: object) -> object:
    if isinstance(value, Masked):
        return MASK if value.ciphertext else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = [f"and {len(value) - ITEMS_SHOWN} more"] if len(value) > ITEMS_SHOWN else []
        return [*value[:ITEMS_SHOWN], *more]
    return value
