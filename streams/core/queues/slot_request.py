"""A delivery's request for a slot."""

from datetime import datetime
from typing import NamedTuple

from streams.core.deliveries.delivery import Delivery, Target, Trigger
from streams.core.queues.endpoint_queue import Priority
from streams.core.queues.rate import Rate
from streams.core.webhooks.webhook import Webhook


class SlotRequest(NamedTuple):
    """A slot of an endpoint's `queue`, with at most `ceiling` requests in flight, for a delivery due at `due_at`.

    Another process may have used the `rate` until `rate_known_since`, in seconds of `time.monotonic`.
    """

    queue: str
    priority: Priority
    ceiling: int
    due_at: datetime
    account_id: str
    rate: Rate | None = None
    rate_known_since: float = 0.0


def slot_request(delivery: Delivery, webhook: Webhook, due_at: datetime, rate_known_since: float) -> SlotRequest:
    priority = _priority_of(delivery)
    rate = None if priority is Priority.TEST else webhook.options.rate
    return SlotRequest(
        _queue_of(delivery), priority, webhook.max_concurrency, due_at, delivery.account_id, rate, rate_known_since
    )


def _priority_of(delivery: Delivery) -> Priority:
    if delivery.trigger is Trigger.TEST:
        return Priority.TEST
    return Priority.FIRST if delivery.is_first else Priority.RETRY


def _queue_of(delivery: Delivery) -> str:
    """Each endpoint has a queue of its own, and so have a webhook's tests."""
    if delivery.trigger is Trigger.TEST:
        return f"{delivery.webhook_id}/test"
    return delivery.webhook_id if delivery.target is Target.PRIMARY else f"{delivery.webhook_id}/fallback"
