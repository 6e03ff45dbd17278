"""Webhooks: registrations of accounts, and the events that each webhook wants."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from streams.core.events.event import Event
from streams.core.events.event_data import OPT_IN_TYPES, WEBHOOK_TYPES
from streams.core.events.event_filter import EventFilter
from streams.core.limits import MAX_DESCRIPTION_CHARACTERS
from streams.core.page import json_bytes
from streams.core.webhooks.auth import Auth
from streams.core.webhooks.delivery_options import DEFAULT_OPTIONS, DeliveryOptions, PauseAfter
from streams.core.webhooks.field_rules import Kind, rule
from streams.core.webhooks.url import is_same_origin

DEFAULT_MAX_CONCURRENCY = 32
# A temporary webhook is deleted when no reader has pulled for so long.
TEMPORARY_LIFE = timedelta(hours=1)
# As one of a webhook's types: every type except `OPT_IN_TYPES`.
ALL_EVENTS = "*"


def to_event_types(events: Collection[str]) -> frozenset[str]:
    """The types of a webhook from a person's entries, such as `*` and `session.ended`."""
    if ALL_EVENTS not in events:
        return frozenset(events)
    named_types = OPT_IN_TYPES.intersection(events)
    return frozenset({ALL_EVENTS, *named_types}) if named_types else frozenset()


def to_entered_types(event_types: Collection[str]) -> list[str]:
    """The event types in the form of a person's entries: the inverse of `to_event_types`."""
    types = OPT_IN_TYPES.intersection(event_types) | {ALL_EVENTS} if ALL_EVENTS in event_types else event_types
    return sorted(types) or [ALL_EVENTS]


class Status(StrEnum):
    """Whether requests may be sent to this webhook. A deleted webhook is not on the topic."""

    ACTIVE = "active"
    PAUSED = "paused"


class DeliveryMode(StrEnum):
    """How a webhook gets its events: by requests to its URL, or when a reader pulls them."""

    PUSH = "push"
    PULL = "pull"


class PauseReason(StrEnum):
    """Why a webhook is paused."""

    MANUAL = "manual"
    FAILURES = "failures"
    GONE = "gone"

    @property
    def is_automatic(self) -> bool:
        return self is not PauseReason.MANUAL


def pause_cause(reason: PauseReason, pause_after: PauseAfter) -> str:
    """Why a webhook is paused, as the end of a sentence."""
    return {
        PauseReason.MANUAL: "by a person",
        PauseReason.FAILURES: f"after {pause_after.description}",
        PauseReason.GONE: "because its endpoint responded with 410 Gone",
    }[reason]


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause. Deliveries held during it have its id, so that late ones get the same treatment."""

    id: str
    reason: PauseReason


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """An encrypted signing secret; during a rotation the old secret is valid until a time."""

    ciphertext: str
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """The state of a webhook on the compacted topic. No scopes means all. No types means every type except
    `OPT_IN_TYPES`, and so does `*` among the types (`to_event_types`). A pull webhook has no URL.

    `created_at` is when its first record was appended; that first record does not contain it.
    """

    id: str
    account_id: str
    url: str
    secrets: tuple[EncryptedSecret, ...]
    event_types: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    dispatches: frozenset[str] = frozenset()
    fallback_url: str | None = None
    encrypted_headers: str | None = None
    encrypted_fallback_headers: str | None = None
    encrypted_auth_secret: str | None = None
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    status: Status = Status.ACTIVE
    pause: Pause | None = None
    health_epoch: int = 1
    version: int = 1
    created_at: datetime | None = None
    filter: EventFilter | None = None
    options: DeliveryOptions = DEFAULT_OPTIONS

    @property
    def delivery(self) -> DeliveryMode:
        return delivery_mode(self.url)

    @property
    def scope_id_count(self) -> int:
        return len(self.packages) + len(self.dispatches)

    @property
    def filter_text(self) -> str | None:
        """The filter as JSON."""
        return self.filter.text if self.filter else None

    @property
    def text_length(self) -> int:
        """The length of its URLs, its encrypted headers, its filter and its options."""
        urls = self.url, self.fallback_url
        ciphertexts = self.encrypted_headers, self.encrypted_fallback_headers, self.encrypted_auth_secret
        texts = *urls, *ciphertexts, self.filter_text, self.options.text
        return sum(len(text) for text in texts if text)

    def headers_for(self, url: str) -> str | None:
        """The customer's own headers for a request to `url`, encrypted. A secret of one host never goes to another."""
        if url == self.url:
            return self.encrypted_headers
        if self.encrypted_fallback_headers is not None:
            return self.encrypted_fallback_headers
        return self.encrypted_headers if is_same_origin(url, self.url) else None

    def auth_for(self, url: str) -> Auth | None:
        """The credentials for a request to `url`. A secret of one host never goes to another."""
        auth = self.options.auth
        return auth if auth is None or url == self.url or is_same_origin(url, self.url) else None

    def valid_secrets(self, now: datetime) -> tuple[EncryptedSecret, ...]:
        """The secrets to sign with, oldest first: one, or two during a rotation's overlap."""
        return tuple(secret for secret in self.secrets if secret.valid_until is None or now < secret.valid_until)


def delivery_mode(url: str) -> DeliveryMode:
    """How a webhook with this URL gets its events."""
    return DeliveryMode.PUSH if url else DeliveryMode.PULL


def webhook_title(description: str, url: str) -> str:
    """The name of a webhook on pages."""
    return description or url or "Pull webhook"


def takes(webhook: Webhook, event_type: str) -> bool:
    """Whether `webhook` takes events of this type: it names the type, or takes all types that need not be named."""
    types = webhook.event_types
    return event_type in types or ((not types or ALL_EVENTS in types) and event_type not in OPT_IN_TYPES)


class MismatchReason(StrEnum):
    """Why no webhook gets an event."""

    NO_WEBHOOK = "no_webhook"
    TYPE = "type"
    SCOPE = "scope"
    FILTER = "filter"
    NEWCOMER = "newcomer"
    # Only a search finds this: fan-out asks no database.
    NO_ACCOUNT = "no_account"


def in_scope(webhooks: Sequence[Webhook], event: Event) -> Sequence[Webhook]:
    """The webhooks without a scope, or with one that has the event's package or dispatch.

    An event with neither matches by its type alone. An event about a webhook never goes to that webhook.
    """
    package, dispatch = event.data.get("packageId"), event.data.get("dispatchId")
    if package is None and dispatch is None:
        if event.type in WEBHOOK_TYPES:
            # An event about a webhook never goes to it: its failure would cause the next one.
            return [webhook for webhook in webhooks if webhook.id != event.data.get("webhookId")]
        return webhooks
    return [
        webhook
        for webhook in webhooks
        if package in webhook.packages or dispatch in webhook.dispatches or not (webhook.packages or webhook.dispatches)
    ]


def mismatch_in_scope(webhook: Webhook, event: Event) -> MismatchReason | None:
    """Why `webhook` does not get `event`, which is in its scope: its account, its type or its filter."""
    if event.account_id != webhook.account_id:
        return MismatchReason.NO_WEBHOOK
    if not takes(webhook, event.type):
        return MismatchReason.TYPE
    if webhook.filter is not None and not webhook.filter.matches(event.data):
        return MismatchReason.FILTER
    return None


def mismatch_reason(webhook: Webhook, event: Event) -> MismatchReason | None:
    """Why `webhook` does not get `event`: its account, its type, its scope or its filter. None when it gets it."""
    reason = mismatch_in_scope(webhook, event)
    if reason in (MismatchReason.NO_WEBHOOK, MismatchReason.TYPE) or in_scope((webhook,), event):
        return reason
    return MismatchReason.SCOPE


def wants(webhook: Webhook, event: Event) -> bool:
    """Whether `webhook` gets `event`."""
    return mismatch_reason(webhook, event) is None


def closest_mismatch(mismatches: Iterable[MismatchReason | None]) -> MismatchReason:
    """Why no webhook of an account gets an event: the reason of the closest one. If one wants it, that webhook is newer
    than the event.
    """
    reasons = set(mismatches)
    closest_first = (None, MismatchReason.FILTER, MismatchReason.SCOPE, MismatchReason.TYPE)
    return next(
        (reason or MismatchReason.NEWCOMER for reason in closest_first if reason in reasons), MismatchReason.NO_WEBHOOK
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleFields:
    """The fields of a webhook that only people need: one line for each, and a migration."""

    description: str = field(
        default="",
        metadata=rule(
            kind=Kind.TEXT,
            largest=MAX_DESCRIPTION_CHARACTERS,
            example="The CRM of the sales team",
            label="Description",
            hint="For people, such as “The CRM of the sales team”.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Registration(PeopleFields):
    """A webhook as it is registered: its state, and data that only people need.

    `url_changed_at` is None while it has its first URL. `probe_at` is when a probe is due, if its pause may end by one.
    `expires_at` is when a temporary webhook is deleted, unless a reader has pulled from it in the meantime.
    """

    webhook: Webhook
    created_at: datetime
    paused_at: datetime | None = None
    url_changed_at: datetime | None = None
    probe_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def listed_webhook(self) -> "ListedWebhook":
        """The registration as lists show it."""
        webhook = self.webhook
        computed_fields: dict[str, Any] = {
            "packages_count": len(webhook.packages),
            "dispatches_count": len(webhook.dispatches),
            "secret_ends": tuple(secret.valid_until for secret in webhook.secrets if secret.valid_until),
            "has_headers": webhook.encrypted_headers is not None,
            "has_fallback_headers": webhook.encrypted_fallback_headers is not None,
            "filter": webhook.filter_text,
            "deleted_at": None,
        }
        # `created_at` of the registration, not of its first record.
        same_names = [column.name for column in fields(ListedWebhook) if column.name not in computed_fields]
        return ListedWebhook(
            **{name: getattr(self if hasattr(self, name) else webhook, name) for name in same_names}, **computed_fields
        )


@dataclass(frozen=True, slots=True)
class ListedWebhook(PeopleFields):
    """A registration as lists show it: with the number of ids in its scope, without secrets and headers.

    `secret_ends` are the times when old secrets expire. Only a list with deleted webhooks has some. `filter` is JSON.
    """

    id: str
    account_id: str
    url: str
    fallback_url: str | None
    event_types: frozenset[str]
    packages_count: int
    dispatches_count: int
    secret_ends: tuple[datetime, ...]
    has_headers: bool
    has_fallback_headers: bool
    max_concurrency: int
    status: Status
    pause: Pause | None
    version: int
    created_at: datetime
    paused_at: datetime | None
    url_changed_at: datetime | None
    probe_at: datetime | None
    expires_at: datetime | None
    deleted_at: datetime | None
    filter: str | None
    options: DeliveryOptions

    @property
    def delivery(self) -> DeliveryMode:
        return delivery_mode(self.url)

    @property
    def title(self) -> str:
        return webhook_title(self.description, self.url)

    @property
    def json_bytes(self) -> int:
        """An upper limit of its size in a response: the texts of people, and the rest."""
        texts = [getattr(self, attribute.name) for attribute in fields(PeopleFields)]
        return 800 + json_bytes((self.url, self.fallback_url, *texts, self.filter, self.options.to_json()))
