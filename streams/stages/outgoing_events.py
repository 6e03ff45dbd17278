"""Send this system's own events to `session-events` until the broker acknowledges them."""

import asyncio
from collections.abc import Mapping
from functools import partial

from streams.core.errors import RecordsRefused
from streams.core.failed_work import WorkKind
from streams.outage import DATABASE, Outages
from streams.ports.kafka import Outgoing, RecordProducer
from streams.ports.runtime import Telemetry
from streams.ports.storage import OutgoingEvents
from streams.stages.postponed_work import PostponedWork
from streams.topics import SESSION_EVENTS

BATCH_SIZE = 500
RETRY_SECONDS = 1.0


async def send_outgoing_events(
    outgoing_events: OutgoingEvents,
    producer: RecordProducer,
    telemetry: Telemetry,
    outages: Outages,
    postponed_work: PostponedWork,
    *,
    batch_size: int = BATCH_SIZE,
    retry_seconds: float = RETRY_SECONDS,
) -> None:
    """Serve until cancelled. A crash after the acknowledgement sends an event again, with the same id.

    An event that Kafka refuses does not stop the others. It is kept, and tried again later.
    """
    while True:
        postponed_ids = postponed_work.postponed_ids(WorkKind.OUTGOING_EVENT)
        events = await outages.retry(
            partial(outgoing_events.list_due, batch_size + len(postponed_ids)), retry_seconds, DATABASE
        )
        due_events = [event for event in events if event.id not in postponed_ids][:batch_size]
        if not due_events:
            # With a refused event, `wait` would return at once.
            await (
                asyncio.sleep(retry_seconds)
                if postponed_ids
                else outages.retry(outgoing_events.wait, retry_seconds, DATABASE)
            )
            continue
        reasons: Mapping[int, str] = {}
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, event.key.encode(), event.value) for event in due_events])
        except RecordsRefused as error:
            reasons = error.reasons
        acknowledged_ids = [event.id for index, event in enumerate(due_events) if index not in reasons]
        for index, reason in reasons.items():
            await postponed_work.postpone(WorkKind.OUTGOING_EVENT, due_events[index].id, "", reason)
        for event_id in acknowledged_ids:
            await postponed_work.note_success(WorkKind.OUTGOING_EVENT, event_id)
        await outages.retry(partial(outgoing_events.remove, acknowledged_ids), retry_seconds, DATABASE)
        telemetry.count("outgoing_events_total", len(acknowledged_ids))
