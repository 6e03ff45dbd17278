"""Accept events over HTTP, for platforms without a Kafka client."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from streams.core.errors import FieldError, Invalid, NotAcknowledged, RecordsRefused
from streams.core.events.event import Event, parse_event, partition_key, with_trace_parent
from streams.core.ids import derived_id
from streams.core.limits import MAX_EVENTS_PER_REQUEST
from streams.features.events.recipients import RecipientService
from streams.ids import new_id
from streams.ports.kafka import Codec, Outgoing, RecordProducer
from streams.ports.runtime import Clock
from streams.topics import SESSION_EVENTS

ACKNOWLEDGEMENT_TIMEOUT_SECONDS = 10.0
Item = TypeVar("Item")
Converted = TypeVar("Converted")


@dataclass
class IngestService:
    """`_codec` encodes events as the platform's own producers do."""

    _producer: RecordProducer
    _codec: Codec
    _recipients: RecipientService
    _clock: Clock

    async def publish(
        self,
        items: Sequence[Mapping[str, Any]],
        account_id: str | None,
        idempotency_key: str | None = None,
        trace_parent: str | None = None,
    ) -> Sequence[Event]:
        """Check all events, then produce all. Returns when all are acknowledged.

        Without an `account_id` each event names its own account. With an `idempotency_key` an event without an id gets
        the same id each time. An event without a trace of its own gets `trace_parent`. Raises `Invalid`, which names
        each item by index and field, and `NotAcknowledged` if Kafka does not acknowledge in ten seconds: some events
        may then be on the topic, so send the same ids again. While the database is away, accounts are not
        checked.
        """
        check_count(items)
        now, id_of = self._clock.now(), self._id_factory(idempotency_key)
        parsed_events = _convert_all(items, lambda index, item: _parse(item, account_id, id_of(index), now))
        events = [with_trace_parent(parsed_event, trace_parent) for parsed_event in parsed_events]
        if account_id is None:
            fields = [f"events[{index}].accountId" for index in range(len(events))]
            await self._recipients.require_accounts(events, fields)
        values = _convert_all(events, lambda _, event: self._codec.encode(event))
        records = [
            Outgoing(SESSION_EVENTS, partition_key(event).encode(), value)
            for event, value in zip(events, values, strict=True)
        ]
        try:
            async with asyncio.timeout(ACKNOWLEDGEMENT_TIMEOUT_SECONDS):
                await self._producer.produce(records)
        except TimeoutError:
            raise NotAcknowledged(
                "Kafka did not acknowledge the events in time, and may have them. Send the same bytes again, with "
                "the same ids or Idempotency-Key: receivers then get each event once"
            ) from None
        except RecordsRefused as error:
            # The topic's limit is smaller than `topics plan` sets; all other events are accepted.
            raise Invalid(
                *(
                    FieldError(f"events[{index}]", f"Kafka refuses it: {reason}")
                    for index, reason in error.reasons.items()
                )
            ) from None
        return events

    def _id_factory(self, idempotency_key: str | None) -> Callable[[int], str]:
        if idempotency_key is None:
            return lambda index: new_id("evt")
        return lambda index: derived_id("evt", idempotency_key, str(index))


def check_count(items: Sequence[object]) -> None:
    """Raise `Invalid` unless there are 1 to 500 events."""
    if not 1 <= len(items) <= MAX_EVENTS_PER_REQUEST:
        raise Invalid(FieldError("events", f"must be from 1 to {MAX_EVENTS_PER_REQUEST} events"))


def _convert_all(items: Iterable[Item], convert: Callable[[int, Item], Converted]) -> list[Converted]:
    """Convert each item with `convert`. Raises `Invalid`, which names the index of each wrong item."""
    results, errors = [], []
    for index, item in enumerate(items):
        try:
            results.append(convert(index, item))
        except Invalid as error:
            errors += [
                FieldError(f"events[{index}].{field_error.field}", field_error.message) for field_error in error.errors
            ]
    if errors:
        raise Invalid(*errors)
    return results


def _parse(item: Mapping[str, Any], account_id: str | None, default_id: str, now: datetime) -> Event:
    if account_id is None:
        return parse_event(item, default_id=default_id, now=now)
    if item.get("accountId", account_id) != account_id:
        raise Invalid(FieldError("accountId", "must be the account of the API key, or absent"))
    return parse_event({**item, "accountId": account_id}, default_id=default_id, now=now)
