"""Accounts, their users, and the details of their deliveries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from streams.core.accounts.access import Role
from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.events.event import EventSubjects, metadata_hash
from streams.core.page import Cursor


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of the platform. `emails` receive its notifications, `plan_limit` is in launches a month.

    With `weekly_digest`, a weekly mail reminds of dead letters while there are any. `muted_mails` are the kinds of
    notices that are not mailed; a newer release may know more.
    """

    id: str
    name: str
    emails: tuple[str, ...]
    created_at: datetime
    plan_limit: int | None = None
    weekly_digest: bool = True
    muted_mails: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in to an account's dashboard."""

    id: str
    account_id: str
    email: str
    created_at: datetime
    role: Role = Role.OWNER


@dataclass(frozen=True, slots=True)
class AttemptDetails:
    """One attempt as it is stored."""

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
    webhook_version: int
    fields: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """A delivery with its body and its newest attempts, oldest first.

    The body and the attempts come from different topics. The body is the one that the newest attempt sent, or that the
    first one would send. It is None until it is stored, and after retention. `earlier_cursor` is where the list of
    attempts continues; None when `attempts` has all of them.
    """

    delivery_state: DeliveryState
    body: bytes | None = field(repr=False)
    attempts: Sequence[AttemptDetails]
    attempts_total: int
    earlier_cursor: Cursor | None = None

    @property
    def payload(self) -> Any:
        """The body as JSON, or as text when it is not JSON."""
        if self.body is None:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """A filter of deliveries; None means any. `reason` is why a delivery is held or dead.

    `since` and `until` limit `first_seen_at`, `changed_until` limits `changed_at`. `outcome` and `status_class` (4 for
    4xx) select deliveries with an attempt that failed in this way. `without_tests` omits deliveries that are never sent
    again: of test events, and of erased learners. `metadata` is one pair of the event's metadata, `short_id` the first
    part of the delivery's id. The list is newest first, and a page begins after the row `after`.
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
    session_id: str | None = None
    learner_id: str | None = None
    package_id: str | None = None
    dispatch_id: str | None = None
    outcome: str | None = None
    status_class: int | None = None
    states: tuple[State, ...] | None = None
    event_types: Sequence[str] | None = None
    without_tests: bool = False
    metadata: tuple[str, str] | None = None
    short_id: str | None = None

    def change_at(self, now: datetime) -> datetime:
        """The time of a change to a matching delivery: after `changed_until`, so it no longer matches on any clock."""
        return now if self.changed_until is None else max(now, self.changed_until + timedelta(microseconds=1))

    @property
    def subjects(self) -> EventSubjects:
        pairs = () if self.metadata is None else (metadata_hash(*self.metadata),)
        return EventSubjects(self.session_id, self.learner_id, self.package_id, self.dispatch_id, pairs)


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """How many deliveries match a filter, across how many webhooks, and when the oldest and the newest were first seen.

    `undeliverable_count` counts the deliveries of deleted webhooks, which cannot be sent. With `is_capped` there are
    more, and the numbers cover only the oldest ones.
    """

    count: int = 0
    webhooks: int = 0
    oldest_at: datetime | None = None
    newest_at: datetime | None = None
    undeliverable_count: int = 0
    is_capped: bool = False
