"""Convert webhooks to rows and back."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Text, cast, func, literal

from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.deliveries import webhooks
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.record_checks import parse_recorded_filter, parse_recorded_options
from streams.core.webhooks.delivery_options import DEFAULT_OPTIONS, DeliveryOptions
from streams.core.webhooks.webhook import (
    EncryptedSecret,
    ListedWebhook,
    Pause,
    PauseReason,
    Registration,
    Status,
    Webhook,
)

# Fields that a column stores unchanged: a new field needs no line here.
_CONVERTED_FIELDS = {
    "secrets",
    "event_types",
    "packages",
    "dispatches",
    "status",
    "pause",
    "created_at",
    "filter",
    "options",
}
_PLAIN_FIELDS = [attribute.name for attribute in fields(Webhook) if attribute.name not in _CONVERTED_FIELDS]
_REGISTRATION_FIELDS = [attribute.name for attribute in fields(Registration) if attribute.name != "webhook"]


def to_webhook(row: Any) -> Webhook:
    """The webhook of a row, as the topic has it."""
    return to_value(
        Webhook,
        row,
        secrets=tuple(
            EncryptedSecret(secret["ciphertext"], _parse_moment(secret.get("valid_until"))) for secret in row.secrets
        ),
        event_types=frozenset(row.event_types),
        packages=frozenset(row.packages),
        dispatches=frozenset(row.dispatches),
        status=Status(row.status),
        pause=_pause(row),
        created_at=row.published_at,
        filter=parse_recorded_filter(row.filter) if row.filter else None,
        options=parse_recorded_options(row.options),
    )


def to_registration(row: Any) -> Registration:
    """The registration of a row, as people see it."""
    return to_value(Registration, row, webhook=to_webhook(row))


_CIPHERTEXT_COLUMNS = ("encrypted_headers", "encrypted_fallback_headers", "encrypted_auth_secret")
_UNLISTED_COLUMNS = {"packages", "dispatches", *_CIPHERTEXT_COLUMNS}
# The columns of a list: without the ids of scopes, which may be 260 KiB for one webhook, and without the headers.
LIST_COLUMNS = (
    *(column for column in webhooks.c if column.name not in _UNLISTED_COLUMNS),
    func.json_array_length(webhooks.c.packages).label("packages_count"),
    func.json_array_length(webhooks.c.dispatches).label("dispatches_count"),
    webhooks.c.encrypted_headers.is_not(None).label("has_headers"),
    webhooks.c.encrypted_fallback_headers.is_not(None).label("has_fallback_headers"),
)


def to_listed(row: Any) -> ListedWebhook:
    """The webhook of a row of `LIST_COLUMNS`."""
    ends = (_parse_moment(secret.get("valid_until")) for secret in row.secrets)
    return to_value(
        ListedWebhook,
        row,
        event_types=frozenset(row.event_types),
        secret_ends=tuple(end for end in ends if end),
        status=Status(row.status),
        pause=_pause(row),
        options=readable_options(row.options),
    )


def readable_options(text: str | None) -> DeliveryOptions:
    """The options of a webhook, for lists and counts: the defaults if a newer release wrote options of its own."""
    try:
        return parse_recorded_options(text)
    except (InvalidRecord, NewerRecord):
        return DEFAULT_OPTIONS


# The sizes of values that a customer chooses, so that a query can count before it reads.
SCOPE_CHARACTERS = func.length(cast(webhooks.c.packages, Text)) + func.length(cast(webhooks.c.dispatches, Text))
_TEXT_COLUMNS = ("url", "fallback_url", *_CIPHERTEXT_COLUMNS, "filter", "options")
TEXT_CHARACTERS = sum((func.length(func.coalesce(webhooks.c[name], "")) for name in _TEXT_COLUMNS), literal(0))
FILTER_CHARACTERS = func.length(func.coalesce(webhooks.c.filter, ""))


def _pause(row: Any) -> Pause | None:
    return Pause(row.pause_id, PauseReason(row.pause_reason)) if row.pause_id else None


def from_registration(registration: Registration) -> dict[str, Any]:
    """The columns that a person or a stage may change. Only `publish` writes `published_at`."""
    webhook = registration.webhook
    return {
        **{name: getattr(webhook, name) for name in _PLAIN_FIELDS},
        **{name: getattr(registration, name) for name in _REGISTRATION_FIELDS},
        "event_types": sorted(webhook.event_types),
        "packages": sorted(webhook.packages),
        "dispatches": sorted(webhook.dispatches),
        "secrets": [
            {
                "ciphertext": secret.ciphertext,
                "valid_until": secret.valid_until.isoformat() if secret.valid_until else None,
            }
            for secret in webhook.secrets
        ],
        "status": webhook.status,
        "pause_id": webhook.pause.id if webhook.pause else None,
        "pause_reason": webhook.pause.reason if webhook.pause else None,
        "filter": webhook.filter_text,
        "options": webhook.options.text,
        "old_secret_until": min((secret.valid_until for secret in webhook.secrets if secret.valid_until), default=None),
    }


def _parse_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
