"""Make entries for the audit log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.request import MASK
from streams.core.webhooks.field_rules import to_camel_case
from streams.ids import new_id
from streams.ports.runtime import Clock

# Longer lists are shortened: an entry must not grow with the largest scope.
MAX_LIST_ITEMS = 20


@dataclass(frozen=True, slots=True)
class Masked:
    """A value that the audit log does not show, as its ciphertext; None if there is no value."""

    ciphertext: str | None


def new_entry(
    clock: Clock, actor: str, action: str, object_id: str, account_id: str | None = None, **details: object
) -> AuditEntry:
    """An entry for an action of `actor` now; details have the API's names."""
    present_details = {to_camel_case(name): value for name, value in details.items() if value is not None}
    return AuditEntry(new_id("audit"), actor, action, object_id, clock.now(), account_id, present_details)


def differences(previous: Mapping[str, object], updated: Mapping[str, object]) -> Mapping[str, object]:
    """The fields that differ, each with its old and its new value, by their names in the API."""
    return {
        to_camel_case(name): {"from": _to_audit_value(value), "to": _to_audit_value(updated[name])}
        for name, value in previous.items()
        if value != updated[name]
    }


def _to_audit_value(value: object) -> object:
    if isinstance(value, Masked):
        return MASK if value.ciphertext else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        omitted = [f"and {len(value) - MAX_LIST_ITEMS} more"] if len(value) > MAX_LIST_ITEMS else []
        return [*value[:MAX_LIST_ITEMS], *omitted]
    return value
