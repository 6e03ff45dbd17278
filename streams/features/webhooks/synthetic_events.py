"""Send a test event to one webhook on the real path, and wait for its outcome."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from streams.core.accounts.account import DeliveryDetails
from streams.core.deliveries.delivery import Delivery, State, SubscriptionsPosition, Trigger
from streams.core.deliveries.time_limits import seconds_until_outcome
from streams.core.errors import FieldError, Invalid, NotFound, Unavailable
from streams.core.events.event import Event, check_event, event_hash, render, subjects_of_event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_PAYLOAD_BYTES
from streams.core.webhooks.webhook import Webhook, takes
from streams.features.webhooks.outcome_watch import OutcomeWatch
from streams.features.webhooks.samples import sample_event
from streams.ids import new_id
from streams.ports.kafka import Codec, Outgoing, RecordProducer
from streams.ports.runtime import Clock
from streams.ports.storage import DeliveryStore
from streams.ports.webhooks import Webhooks
from streams.topics import TEST_DELIVERIES

PRODUCE_TIMEOUT_SECONDS = 10.0
DEFAULT_TYPE = "session.completed"


@dataclass
class SyntheticEventService:
    """A test is sent once, even to a paused webhook, and does not count in any statistics.

    The test of a pull webhook is held until a reader pulls it: its outcome is then `held`.

    `_wait_seconds` covers its wait in the queue, its attempt and the record of it, with the deployment's timeout.
    """

    _webhooks: Webhooks
    _deliveries: DeliveryStore
    _producer: RecordProducer
    _codec: Codec
    _clock: Clock
    _wait_seconds: float
    produce_timeout_seconds: float = PRODUCE_TIMEOUT_SECONDS

    @cached_property
    def _outcomes(self) -> OutcomeWatch:
        return OutcomeWatch(self._deliveries)

    async def send(
        self,
        webhook_id: str,
        event_type: str | None = None,
        account_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> DeliveryDetails:
        """Send a test. Returns its delivery with the attempt once there is an outcome.

        Without a type, the test has a type that the webhook wants. `data` replaces fields of the sample; None removes
        one. `account_id` limits it to one account. Raises `NotFound`, `Invalid` for an unknown type or wrong `data`,
        `Conflict` while too many tests wait, and `Unavailable` if there is
        no outcome in time.
        """
        if event_type is not None and event_type not in EVENT_TYPES:
            raise Invalid(FieldError("type", "must be one of: " + ", ".join(EVENT_TYPES)))
        registration = await self._webhooks.find(webhook_id)
        if registration is None or account_id not in (None, registration.webhook.account_id):
            raise NotFound(f"there is no webhook {webhook_id}")
        owner, now = registration.webhook.account_id, self._clock.now()
        event_type = event_type or choose_type(registration.webhook)
        event = _with_data(sample_event(event_type, new_id("evt"), owner, now), data or {}, now)
        body = render(event)
        if len(body) > MAX_PAYLOAD_BYTES:
            raise Invalid(FieldError("data", f"must be at most {MAX_PAYLOAD_BYTES} bytes with the rest of the event"))
        delivery = Delivery(
            account_id=owner,
            event_id=event.id,
            event_type=event.type,
            webhook_id=webhook_id,
            first_seen_at=now,
            # `deliver` reads all of `subscriptions` before a test, so this position does not matter.
            subscriptions_position=SubscriptionsPosition("", 0),
            body=body,
            subjects=subjects_of_event(event),
            event_hash=event_hash(body),
            trigger=Trigger.TEST,
        )
        with self._outcomes.reserve(registration.webhook):
            await self._produce(Outgoing(TEST_DELIVERIES, webhook_id.encode(), self._codec.encode(delivery)))
            timeout_seconds = registration.webhook.options.timeout_seconds
            wait_seconds = seconds_until_outcome(timeout_seconds) if timeout_seconds else self._wait_seconds
            return await self._outcome(delivery.id, wait_seconds)

    async def _produce(self, outgoing: Outgoing) -> None:
        try:
            async with asyncio.timeout(self.produce_timeout_seconds):
                await self._producer.produce([outgoing])
        except TimeoutError:
            raise Unavailable(
                f"Kafka did not accept the test within {self.produce_timeout_seconds:g} seconds. It may still be sent: "
                "wait for Kafka, then send another one"
            ) from None

    async def _outcome(self, delivery_id: str, wait_seconds: float) -> DeliveryDetails:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self._outcomes.wait(delivery_id)
        details = await self._deliveries.find(delivery_id)
        is_waiting = details is not None and details.delivery_state.state is State.WAITING
        if details is not None and details.body is not None and not is_waiting:
            return details
        # A test that `deliver` reads has ended by now, or has expired.
        missing_part = "no outcome from `deliver`" if is_waiting else "`record` has not stored it"
        stage = "deliver" if is_waiting else "record"
        raise Unavailable(
            f"the test was accepted, but {missing_part} within {wait_seconds:g} seconds: is `{stage}` running?"
        )


def _with_data(sample: Event, data: Mapping[str, Any], now: datetime) -> Event:
    """The sample with the caller's fields. Raises `Invalid`."""
    if not data:
        return sample
    merged = {name: value for name, value in {**sample.data, **data}.items() if value is not None}
    return check_event(replace(sample, data=merged), now)


def choose_type(webhook: Webhook) -> str:
    """The default type if the webhook wants it, otherwise the first type that it wants."""
    return next(name for name in (DEFAULT_TYPE, *EVENT_TYPES) if takes(webhook, name))
