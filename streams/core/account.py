"""An account: the owner of webhooks, and what a person may see of its deliveries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streams.core.delivery import State
from streams.core.delivery_state import DeliveryState
from streams.core.page import Cursor


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of the platform; `emails` get its notifications, `plan_limit` is launches a month.

    With `weekly_digest` it is reminded of dead letters every week for as long as there are any.
    """

    id: str
    name: str
    emails: tuple[str, ...]
    created_at: datetime
    plan_limit: int | None = None
    weekly_digest: bool = True


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in to an account's dashboard."""

    id: str
    account_id: str
    email: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptDetails:
    """One attempt as it was recorded."""

    generation: int
    number: int
    target: str
    url: str
    started_at: datetime
    milliseconds: float
    request_headers: Mapping[str, str] = field(repr=False)
    status: int | None
    response_headers: Mapping[str, str] = field(repr=False)
    response_body: bytes = field(repr=False)
    outcome: str
    message: str
    next_step: str
    tier: str | None


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """A delivery with its body and every attempt, oldest first.

    The body comes by another topic than the attempts: it is None until it was recorded, and once it is no longer kept.
    """

    delivery_state: DeliveryState
    body: bytes | None = field(repr=False)
    attempts: Sequence[AttemptDetails]

    @property
    def payload(self) -> Any:
        """The body's JSON; text where it is none."""
        if self.body is None:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries are meant; None means any. `reason` is why they are held or dead.

    `since` and `until` bound when they were first seen, `changed_until` when they last changed; `after` is the row
    of a list, newest first, behind which it goes on.
    """

    account_id: str | None = None
    webhook_id: str | None = None
    event_id: str | None = None
    state: State | None = None
    limit: int = 50
    event_type: str | None = None
    reason: str | None = None
    ids: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    changed_until: datetime | None = None
    in_tier: bool = False
    after: Cursor | None = None
