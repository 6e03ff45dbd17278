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
REFUSED_RETRY_SECONDS = 60.0


async def send_outgoing_events(
    outgoing_events: OutgoingEvents, producer: RecordProducer, telemetry: Telemetry, outages: Outages
) -> None:
    """Serve until cancelled. A crash after the acknowledgement sends an event again, with the same id.

    An event that Kafka refuses stops no other. It is kept, and tried again after a minute.
    """
    retry_times: dict[str, float] = {}
    now = asyncio.get_running_loop().time
    while True:
        retry_times = {event_id: retry_at for event_id, retry_at in retry_times.items() if retry_at > now()}
        events = await outages.retry(
            partial(outgoing_events.list_due, BATCH_SIZE + len(retry_times)), RETRY_SECONDS, DATABASE
        )
        due_events = [event for event in events if event.id not in retry_times][:BATCH_SIZE]
        if not due_events:
            # With a refused one, `wait` would return at once.
            await (
                asyncio.sleep(RETRY_SECONDS)
                if retry_times
                else outages.retry(outgoing_events.wait, RETRY_SECONDS, DATABASE)
            )
            continue
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, event.key.encode(), event.value) for event in due_events])
        except RecordsRefused as error:
            retry_times |= {due_events[index].id: now() + REFUSED_RETRY_SECONDS for index in error.reasons}
            first_index, reason = next(iter(error.reasons.items()))
            telemetry.error(
                "outgoing_event_refused", event_id=due_events[first_index].id, why=reason, count=len(error.reasons)
            )
        acknowledged_ids = [event.id for event in due_events if event.id not in retry_times]
        await outages.retry(partial(outgoing_events.remove, acknowledged_ids), RETRY_SECONDS, DATABASE)
        telemetry.count("outgoing_events_total", len(acknowledged_ids))
