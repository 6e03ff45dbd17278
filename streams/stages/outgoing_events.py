"""Send events of our own to `session-events`, until the broker acknowledged them."""

import asyncio
from functools import partial

from streams.core.errors import RecordsRefused
from streams.outage import DATABASE, Outages
from streams.ports import Outgoing, OutgoingEvents, RecordProducer, Telemetry
from streams.topics import SESSION_EVENTS

BATCH_SIZE = 500
RETRY_SECONDS = 1.0
# A person may have changed the topic by then.
REFUSED_SECONDS = 60.0


async def send_outgoing_events(
    outgoing_events: OutgoingEvents, producer: RecordProducer, telemetry: Telemetry, outages: Outages
) -> None:
    """Serve until cancelled. A crash after the acknowledgement sends an event again, with the same id.

    An event that Kafka refuses stops no other. It is kept, and tried again after a minute.
    """
    refused_at: dict[str, float] = {}
    now = asyncio.get_running_loop().time
    while True:
        refused_at = {
            event_id: refused_until for event_id, refused_until in refused_at.items() if refused_until > now()
        }
        events = await outages.retry(
            partial(outgoing_events.due, BATCH_SIZE + len(refused_at)), RETRY_SECONDS, DATABASE
        )
        due_events = [event for event in events if event.id not in refused_at][:BATCH_SIZE]
        if not due_events:
            # With a refused one, `wait` would return at once.
            await (
                asyncio.sleep(RETRY_SECONDS)
                if refused_at
                else outages.retry(outgoing_events.wait, RETRY_SECONDS, DATABASE)
            )
            continue
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, event.key.encode(), event.value) for event in due_events])
        except RecordsRefused as error:
            refused_at |= {due_events[index].id: now() + REFUSED_SECONDS for index in error.reasons}
            first, reason = next(iter(error.reasons.items()))
            telemetry.error(
                "outgoing_event_refused", event_id=due_events[first].id, why=reason, count=len(error.reasons)
            )
        acknowledged_ids = [event.id for event in due_events if event.id not in refused_at]
        await outages.retry(partial(outgoing_events.remove, acknowledged_ids), RETRY_SECONDS, DATABASE)
        telemetry.count("outgoing_events_total", len(acknowledged_ids))
