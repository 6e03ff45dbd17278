"""The webhooks that want an event, and the delivery owed to each of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from streams.core.deliveries.decision import to_held_for_readers
from streams.core.deliveries.delivery import Delivery, SubscriptionsPosition
from streams.core.events.event import Event, event_hash, subjects_of_event
from streams.core.webhooks.webhook import (
    MismatchReason,
    Webhook,
    closest_mismatch,
    in_scope,
    mismatch_in_scope,
    mismatch_reason,
)

# A backlog must not flood a webhook that was registered long after the events happened.
NEWCOMER_DELAY = timedelta(minutes=5)


def match(
    event: Event,
    body: bytes,
    webhooks: Sequence[Webhook],
    appended_at: datetime,
    position: SubscriptionsPosition,
    trace_parent: str | None,
) -> tuple[Sequence[Delivery], str | None]:
    """One delivery for each webhook that wants the event, or the reason why none does; a pull webhook's is held.

    `appended_at` is the time of the event's record, and `position` is how far the webhooks have been read.
    """
    # An account may have a webhook for each of many packages: skip most of them at once.
    candidates = in_scope(webhooks, event)
    mismatches = [mismatch_in_scope(webhook, event) for webhook in candidates]
    recipients = [
        webhook
        for webhook, reason in zip(candidates, mismatches, strict=True)
        if reason is None and not (webhook.created_at and webhook.created_at - appended_at > NEWCOMER_DELAY)
    ]
    if not recipients:
        if not {None, MismatchReason.FILTER}.intersection(mismatches):
            # A webhook out of scope may have passed more checks than the best one so far.
            mismatches = [mismatch_reason(webhook, event) for webhook in webhooks]
        return (), closest_mismatch(mismatches)
    subjects, digest = subjects_of_event(event), event_hash(body)
    deliveries = [
        Delivery(
            account_id=event.account_id,
            event_id=event.id,
            event_type=event.type,
            webhook_id=webhook.id,
            first_seen_at=appended_at,
            subscriptions_position=position,
            body=body,
            trace_parent=trace_parent,
            subjects=subjects,
            event_hash=digest,
        )
        for webhook in recipients
    ]
    # A pull webhook's delivery makes no request.
    return [
        delivery if webhook.url else to_held_for_readers(delivery, webhook)
        for delivery, webhook in zip(deliveries, recipients, strict=True)
    ], None
