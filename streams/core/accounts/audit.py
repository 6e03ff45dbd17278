"""Entries of the audit log: who did what to which object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action in the past tense (`webhook.paused`). `details` never contain a secret.

    `actor` is `key:<id>`, `operator`, `user:<id>`, `oidc:<sub>`, `cli:<name>`, or the stage that acted by itself.
    """

    id: str
    actor: str
    action: str
    object_id: str
    at: datetime
    account_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A filter of entries; None means any. `since` and `until` limit `at`."""

    account_id: str | None = None
    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
