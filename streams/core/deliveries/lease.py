"""Leases of deliveries that readers pull, and the attempts that they become."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from streams.core.deliveries.attempt import Attempt, NextStep
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.failed_work import FailedRow
from streams.core.webhooks.webhook import Webhook


class Lease(NamedTuple):
    """A reader's time for one delivery, which is at its `delivery.attempt`. `began_at` is when it was pulled.

    `until` is its end; after that, or when the reader gave it back, the next reader may pull the delivery. Only a new
    lease has the body.
    """

    delivery: Delivery
    began_at: datetime
    until: datetime


_MESSAGES = {
    OutcomeKind.DELIVERED: "A reader pulled and acknowledged it.",
    OutcomeKind.NOT_ACKNOWLEDGED: "A reader pulled it and gave it back.",
    OutcomeKind.LEASE_ENDED: "A reader pulled it, and did not acknowledge it before its lease ended.",
}


def attempt_of_lease(
    lease: Lease, webhook: Webhook, outcome: OutcomeKind, ended_at: datetime, message: str | None = None
) -> Attempt:
    """The attempt that represents a lease. The reader is unknown, so it has no request and no response."""
    delivery = lease.delivery
    return Attempt(
        account_id=delivery.account_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        webhook_id=delivery.webhook_id,
        trigger=delivery.trigger,
        generation=delivery.generation,
        step=delivery.step + 1,
        number=delivery.attempt,
        target=delivery.target,
        target_attempt=delivery.target_attempt,
        health_epoch=webhook.health_epoch,
        url="",
        first_seen_at=delivery.first_seen_at,
        started_at=lease.began_at,
        # Clocks of processes differ.
        ended_at=max(ended_at, lease.began_at),
        request_headers={},
        status=None,
        response_headers={},
        response_body=b"",
        outcome=outcome,
        message=message or _MESSAGES[outcome],
        next_step=NextStep.DONE if outcome is OutcomeKind.DELIVERED else NextStep.HELD,
        webhook_version=webhook.version,
        fields=webhook.options.fields,
    )


class Leased(NamedTuple):
    """The result of a pull: new leases, and earlier leases of the same deliveries that ended without an
    acknowledgement.

    `failed_rows` cannot be read. `allowed_at` is when the webhook's rate allows the next delivery; None if it allows
    one now.
    """

    leases: Sequence[Lease] = ()
    ended_leases: Sequence[Lease] = ()
    failed_rows: Sequence[FailedRow] = ()
    allowed_at: datetime | None = None
