"""Send events of our own to `session-events`, until the broker acknowledged them."""

import asyncio
from functools import partial

from streams.core.errors import RecordsRefused
from streams.outage import DATABASE, Outages
from streams.ports import Outgoing, OutgoingEvents, RecordProducer, Telemetry
from streams.topics import SESSION_EVENTS

AT_ONCE = 500
RETRY_SECONDS = 1.0
# A person may have changed the topic by then.
REFUSED_SECONDS = 60.0


async def send_outgoing_events(
    outgoing_events: OutgoingEvents, producer: RecordProducer, telemetry: Telemetry, outages: Outages
) -> None:
    """Serve until cancelled. A crash after the acknowledgement sends an event again, with the same id.

    An event that Kafka refuses stops no other. It is kept, and tried again after a minute.
    """
    refused: dict[str, float] = {}
    now = asyncio.get_running_loop().time
    while True:
        refused = {event_id: refused_until for event_id, refused_until in refused.items() if refused_until > now()}
        events = await outages.retry(partial(outgoing_events.due, AT_ONCE + len(refused)), RETRY_SECONDS, DATABASE)
        due_events = [event for event in events if event.id not in refused][:AT_ONCE]
        if not due_events:
            # With a refused one, `wait` would return at once.
            await (
                asyncio.sleep(RETRY_SECONDS)
                if refused
                else outages.retry(outgoing_events.wait, RETRY_SECONDS, DATABASE)
            )
            continue
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, event.key.encode(), event.value) for event in due_events])
        except RecordsRefused as refusal:
            refused |= {due_events[index].id: now() + REFUSED_SECONDS for index in refusal.reasons}
            first, reason = next(iter(refusal.reasons.items()))
            telemetry.error(
                "outgoing_event_refused", event_id=due_events[first].id, why=reason, count=len(refusal.reasons)
            )
        acknowledged = [event.id for event in due_events if event.id not in refused]
        await outages.retry(partial(outgoing_events.sent, acknowledged), RETRY_SECONDS, DATABASE)
        telemetry.count("outgoing_events_total", len(acknowledged))
