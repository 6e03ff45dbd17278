"""Counting events of the topic: one account does not make others wait."""

import asyncio

from builders import NOON, webhook
from fakes import FakeClock, FakeKafka, until
from fakes.history import FakeEventHistory
from streams.adapters.avro.codec import AvroCodec
from streams.core.account import DeliveryFilter
from streams.core.backfill import Period
from streams.features.replays.missing_events import MAX_CONCURRENT_COUNTS, MissingEventCounter

PERIOD = DeliveryFilter(since=NOON, until=NOON)


class SlowHistory(FakeEventHistory):
    """Reads end when `finish` is set."""

    def __init__(self) -> None:
        super().__init__(FakeKafka(FakeClock()))
        self.begun = 0
        self.finish = asyncio.Event()

    async def period(self, *_: object) -> Period:
        self.begun += 1
        await self.finish.wait()
        return Period((), None)


async def test_counts_of_an_account_wait_for_each_other() -> None:
    history = SlowHistory()
    counter = MissingEventCounter(lambda: history, None, None, AvroCodec())  # type: ignore[arg-type]
    counts = [asyncio.create_task(counter.count(webhook(account_id="acme"), PERIOD)) for _ in range(9)]
    await until(lambda: history.begun == 1)
    counts.append(asyncio.create_task(counter.count(webhook(account_id="globex"), PERIOD)))
    await until(lambda: history.begun == MAX_CONCURRENT_COUNTS)
    history.finish.set()
    await asyncio.gather(*counts)
    assert history.begun == len(counts)
