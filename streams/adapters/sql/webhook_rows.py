"""Convert webhooks to rows and back."""

from datetime import datetime
from typing import Any

from streams.core.webhook import EncryptedSecret, Pause, PauseReason, Registration, Status, Webhook


def to_webhook(row: Any) -> Webhook:
    """The webhook of a row, as the topic has it."""
    return Webhook(
        id=row.id,
        account_id=row.account_id,
        url=row.url,
        secrets=tuple(
            EncryptedSecret(secret["ciphertext"], _moment(secret.get("valid_until"))) for secret in row.secrets
        ),
        event_types=frozenset(row.event_types),
        packages=frozenset(row.packages),
        dispatches=frozenset(row.dispatches),
        fallback_url=row.fallback_url,
        encrypted_headers=row.encrypted_headers,
        encrypted_fallback_headers=row.encrypted_fallback_headers,
        max_concurrency=row.max_concurrency,
        status=Status(row.status),
        pause=Pause(row.pause_id, PauseReason(row.pause_reason)) if row.pause_id else None,
        health_epoch=row.health_epoch,
        version=row.version,
        created_at=row.published_at,
    )


def to_registration(row: Any) -> Registration:
    """The registration of a row, as people see it."""
    return Registration(to_webhook(row), row.created_at, row.description, row.paused_at)


def from_registration(registration: Registration) -> dict[str, Any]:
    """The columns that a person or a stage may change. Only `publish` writes `published_at`."""
    webhook = registration.webhook
    return {
        "id": webhook.id,
        "account_id": webhook.account_id,
        "url": webhook.url,
        "fallback_url": webhook.fallback_url,
        "description": registration.description,
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
        "encrypted_headers": webhook.encrypted_headers,
        "encrypted_fallback_headers": webhook.encrypted_fallback_headers,
        "max_concurrency": webhook.max_concurrency,
        "status": webhook.status,
        "pause_id": webhook.pause.id if webhook.pause else None,
        "pause_reason": webhook.pause.reason if webhook.pause else None,
        "paused_at": registration.paused_at,
        "health_epoch": webhook.health_epoch,
        "version": webhook.version,
        "created_at": registration.created_at,
    }


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
