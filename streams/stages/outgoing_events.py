"""Send events of our own to `session-events`, until the broker acknowledged them."""

from functools import partial

from streams.outage import DATABASE, Outages
from streams.ports import Outgoing, OutgoingEvents, RecordProducer, Telemetry
from streams.topics import SESSION_EVENTS

AT_ONCE = 500
RETRY_SECONDS = 1.0


async def send_outgoing_events(
    waiting: OutgoingEvents, producer: RecordProducer, telemetry: Telemetry, outages: Outages
) -> None:
    """Serve until cancelled. A crash after the acknowledgement sends an event again, with the same id."""
    while True:
        due = await outages.retry(lambda: waiting.due(AT_ONCE), RETRY_SECONDS, DATABASE)
        if not due:
            await outages.retry(waiting.wait, RETRY_SECONDS, DATABASE)
            continue
        await producer.produce([Outgoing(SESSION_EVENTS, one.key.encode(), one.value) for one in due])
        sent = partial(waiting.sent, [one.id for one in due])
        await outages.retry(sent, RETRY_SECONDS, DATABASE)
        telemetry.count("outgoing_events_total", len(due))
