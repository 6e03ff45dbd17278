"""fan-out: join each event with the webhooks that want it, and write one delivery for each."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta

from streams.core.delivery import Delivery, ViewPosition
from streams.core.errors import Invalid, Unavailable, Unreadable
from streams.core.event import Event, check_event, render
from streams.core.event_data import EVENT_TYPES
from streams.core.webhook import wants
from streams.ports import Codec, Log, Outgoing, Record, Report, Subscriptions
from streams.stages.invalid import parked
from streams.topics import DELIVERIES

# A backlog must not flood a webhook that was registered long after its events happened.
NEWCOMER_AFTER = timedelta(minutes=5)
RETRY_SECONDS = 1.0

# An event with its body, or what is wrong with the record.
Found = tuple[Event, bytes] | Unreadable | Invalid


class FanOut:
    """1 event → n deliveries; the caller acknowledges a batch only after `handle` returned."""

    def __init__(self, codec: Codec, subscriptions: Subscriptions, log: Log, report: Report) -> None:
        self._codec = codec
        self._subscriptions = subscriptions
        self._log = log
        self._report = report
        self._waits = False

    async def handle(self, records: Sequence[Record]) -> None:
        """Fan a batch out; returns when every delivery of it is acknowledged."""
        read = [await self._read_patiently(record) for record in records]
        seen = await self._subscriptions.catch_up()
        pairs = zip(records, read, strict=True)
        await self._log.produce(
            [outgoing for record, found in pairs for outgoing in self._consequences(record, found, seen)]
        )

    async def _read_patiently(self, record: Record) -> Found:
        """What the record holds, or what is wrong with it; a schema registry that is away is waited for."""
        while True:
            try:
                found: Found = self._read(record)
            except (Unreadable, Invalid) as wrong:
                found = wrong
            except Unavailable as away:
                if not self._waits:
                    self._report.tell("events cannot be read yet; waiting", why=str(away))
                self._waits = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._waits = False
            return found

    def _consequences(self, record: Record, found: Found, seen: ViewPosition) -> Iterator[Outgoing]:
        if isinstance(found, Exception):
            self._report.count("events_invalid_total")
            self._report.tell("event parked", offset=record.offset, partition=record.partition.number, why=str(found))
            yield parked(record, str(found))
            return
        event, body = found
        self._report.count("events_total", type=event.type)
        for webhook in self._subscriptions.of_account(event.account_id):
            late = webhook.created_at is not None and webhook.created_at - record.appended_at > NEWCOMER_AFTER
            if late or not wants(webhook, event):
                continue
            self._report.count("deliveries_created_total")
            delivery = Delivery(
                account_id=event.account_id,
                event_id=event.id,
                event_type=event.type,
                webhook_id=webhook.id,
                first_seen_at=record.appended_at,
                seen=seen,
                body=body,
                trace_parent=event.trace_parent,
            )
            yield Outgoing(DELIVERIES, webhook.id.encode(), self._codec.encode(delivery))

    def _read(self, record: Record) -> tuple[Event, bytes]:
        event = self._codec.decode(record.value or b"")
        if not isinstance(event, Event):
            raise Unreadable(f"a {type(event).__name__.lower()} is not an event")
        if event.type not in EVENT_TYPES:
            raise Unreadable(f"unknown event type {event.type!r}; a newer version may know it")
        return event, render(check_event(event))
