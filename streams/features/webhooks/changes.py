"""Changes of a webhook, and its values in the audit log: no I/O."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from streams.core.webhooks.delivery_options import Resume
from streams.core.webhooks.probe import next_probe_at
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status
from streams.features.shared.audit_trail import Masked
from streams.features.webhooks.input import to_webhook_input


def to_paused(registration: Registration, pause: Pause, now: datetime) -> Registration:
    """The registration of a webhook that a person paused. A second pause changes nothing.

    An automatic pause becomes a person's pause: only a person ends it, and it keeps its held events.
    """
    known_pause = registration.webhook.pause
    if known_pause is not None and known_pause.reason.is_automatic:
        pause_by_person = replace(known_pause, reason=PauseReason.MANUAL)
        return replace(registration, webhook=replace(registration.webhook, pause=pause_by_person), probe_at=None)
    if registration.webhook.status is Status.PAUSED:
        return registration
    return replace(
        registration, webhook=replace(registration.webhook, status=Status.PAUSED, pause=pause), paused_at=now
    )


def to_active(registration: Registration) -> Registration:
    """The registration of an active webhook, in a new health epoch if it was paused."""
    webhook = registration.webhook
    if webhook.status is Status.ACTIVE:
        return registration
    active_webhook = replace(webhook, status=Status.ACTIVE, pause=None, health_epoch=webhook.health_epoch + 1)
    return replace(registration, webhook=active_webhook, paused_at=None, probe_at=None)


def with_probe_time(registration: Registration, now: datetime) -> Registration:
    """The registration with the time of its next probe, if a probe may end its pause."""
    pause, paused_at = registration.webhook.pause, registration.paused_at
    if pause is None or paused_at is None or not pause.reason.is_automatic:
        return registration
    if registration.webhook.options.resume is Resume.MANUAL:
        return replace(registration, probe_at=None)
    return replace(registration, probe_at=registration.probe_at or next_probe_at(paused_at, now))


def audited_values(registration: Registration) -> Mapping[str, Any]:
    """A webhook's values in the audit log: its input and its status, with its headers masked."""
    webhook, entered_input = registration.webhook, to_webhook_input(registration)
    values = {attribute.name: getattr(entered_input, attribute.name) for attribute in fields(entered_input)}
    return {
        **values,
        "status": webhook.status,
        # A ciphertext of the same headers may differ, but only if somebody entered them again.
        "headers": Masked(webhook.encrypted_headers),
        "fallback_headers": Masked(webhook.encrypted_fallback_headers),
        "auth_secret": Masked(webhook.encrypted_auth_secret),
    }
