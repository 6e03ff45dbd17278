"""What `fan-out` reads with, and a function in place of what it does."""

from collections.abc import Awaitable, Callable, Sequence

from fakes.delivery import FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.outage import Outages
from streams.ports.kafka import EventClient, Record
from streams.ports.runtime import Telemetry
from streams.stages.consuming.event_reader import EventReader
from streams.tasks import run_until_first_ends

HandleEvents = Callable[[Sequence[Record]], Awaitable[None]]


class EventConsumer:
    """Hands the batches of an `EventReader` to a function."""

    def __init__(self, client: EventClient, telemetry: Telemetry | None = None, **seconds: float) -> None:
        self.client = client
        self.codec = AccountCodec()
        telemetry = telemetry or FakeTelemetry()
        self.reader = EventReader(client, self.codec, telemetry, Outages(telemetry), **seconds)
        self.drain = self.reader.drain
        self.readiness_problems = self.reader.readiness_problems

    async def run(
        self,
        handle: HandleEvents,
        account_of: Callable[[bytes], str] = lambda _: "",
        deliveries_per_event: Callable[[str], int] = lambda _: 1,
    ) -> None:
        """Serve until cancelled. Raises what `handle` raised."""
        self.codec.find_account = account_of

        async def serve() -> None:
            while True:
                async with self.reader.next_batch(deliveries_per_event) as batch:
                    await handle(batch.records)

        await run_until_first_ends(self.reader.run, serve)


class AccountCodec(AvroCodec):
    """Finds the account of an event by a function."""

    find_account: Callable[[bytes], str]

    def account_of(self, value: bytes) -> str:
        return self.find_account(value)
