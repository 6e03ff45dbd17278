"""The table has all webhooks of the topic, each in its newest version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest_asyncio

from builders import attempt, webhook
from contract.clusters import CODEC, SECONDS, Cluster, until
from fakes import NEWER_CODEC, quiet
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel
from streams.core.webhooks.subscriptions_table import END_CHECK_INTERVAL_SECONDS, PROPAGATION_SECONDS
from streams.ports.delivery import Subscriptions
from streams.ports.kafka import Outgoing, RecordProducer
from streams.topics import SUBSCRIPTIONS


class TopicFixture:
    """The topic as `publish` writes it, and a table that reads it."""

    def __init__(self, producer: RecordProducer, subscriptions: Subscriptions) -> None:
        self._kafka = producer
        self.table = subscriptions

    async def put(self, webhook_id: str, version: int = 1, url: str = "https://crm.example.com/hooks") -> None:
        await self.write(webhook_id, CODEC.encode(webhook(id=webhook_id, version=version, url=url)))

    async def remove(self, webhook_id: str, version: int) -> None:
        tombstone = Outgoing(SUBSCRIPTIONS, webhook_id.encode(), None, ((VERSION_HEADER, b"%d" % version),))
        await self._kafka.produce([tombstone])

    async def mark(self, live: int, incarnation: str = "one") -> None:
        await self.write(SENTINEL_KEY, Sentinel(incarnation, live).encode())

    async def write(self, key: str, value: bytes) -> None:
        await self._kafka.produce([Outgoing(SUBSCRIPTIONS, key.encode(), value)])

    async def caught_up(self) -> SubscriptionsPosition:
        return await asyncio.wait_for(self.table.catch_up(), SECONDS)

    def url_of(self, webhook_id: str) -> str | None:
        found = self.table.find(webhook_id)
        return found.url if found else None


@pytest_asyncio.fixture
async def topic(cluster: Cluster) -> AsyncIterator[TopicFixture]:
    async with cluster.producer() as producer, cluster.subscriptions() as subscriptions:
        yield TopicFixture(producer, subscriptions)


async def is_waiting(task: asyncio.Task[SubscriptionsPosition] | asyncio.Task[None]) -> bool:
    await quiet()
    return not task.done()


def begun(waiting: Awaitable[None]) -> asyncio.Task[None]:
    async def wait() -> None:
        await waiting

    return asyncio.create_task(wait())


async def test_catch_up_includes_what_was_just_published(topic: TopicFixture) -> None:
    await topic.put("wh_0")
    await topic.mark(1)
    for number in range(1, 6):
        await topic.put(f"wh_{number}", version=number + 1)
        await topic.caught_up()
        assert topic.table.find(f"wh_{number}") is not None
    await topic.remove("wh_3", version=9)
    await topic.caught_up()
    assert topic.table.find("wh_3") is None
    assert len(topic.table.of_account("acme")) == 5
    assert topic.table.of_account("nobody") == []


async def test_a_change_is_known_soon_while_events_keep_coming(topic: TopicFixture) -> None:
    """Each event asks for what was on the topic a moment ago: an answer may be older than the change."""
    await topic.mark(0)
    await topic.caught_up()

    async def events() -> None:
        while True:
            await topic.table.catch_up(END_CHECK_INTERVAL_SECONDS)
            await asyncio.sleep(0.001)

    coming = asyncio.create_task(events())
    try:
        for number in range(10):
            # Each time at another moment between two questions.
            await asyncio.sleep(number * END_CHECK_INTERVAL_SECONDS / 10)
            await topic.put(f"wh_{number}")
            await asyncio.sleep(PROPAGATION_SECONDS)
            await asyncio.wait_for(topic.table.catch_up(END_CHECK_INTERVAL_SECONDS), SECONDS)
            assert topic.table.find(f"wh_{number}") is not None
    finally:
        coming.cancel()


async def test_catch_up_waits_for_all_webhooks_of_the_sentinel(topic: TopicFixture) -> None:
    await topic.put("wh_0")
    catching_up = asyncio.create_task(topic.table.catch_up())
    await until(lambda: topic.table.find("wh_0") is not None)
    assert await is_waiting(catching_up)
    await topic.mark(live=2)
    await topic.put("wh_0", version=2, url="https://marked.example.com")
    await until(lambda: topic.url_of("wh_0") == "https://marked.example.com")
    assert await is_waiting(catching_up)
    await topic.put("wh_1")
    seen = await asyncio.wait_for(catching_up, SECONDS)
    assert seen == SubscriptionsPosition("one", 4)


async def test_an_older_version_that_comes_later_changes_nothing(topic: TopicFixture) -> None:
    await topic.mark(0)
    await topic.put("wh_0", version=5, url="https://new.example.com")
    await topic.put("wh_0", version=4, url="https://old.example.com")
    await topic.caught_up()
    assert topic.url_of("wh_0") == "https://new.example.com"
    await topic.remove("wh_0", version=6)
    await topic.put("wh_0", version=5)
    await topic.caught_up()
    assert topic.table.find("wh_0") is None


async def test_the_first_record_of_a_webhook_sets_its_creation(topic: TopicFixture) -> None:
    await topic.mark(0)
    await topic.put("wh_0")
    await topic.caught_up()
    first = topic.table.find("wh_0")
    await topic.put("wh_0", version=2)
    await topic.caught_up()
    second = topic.table.find("wh_0")
    assert first
    assert second
    assert second.version == 2
    assert first.created_at == second.created_at is not None


async def test_a_position_of_another_process_is_waited_for(topic: TopicFixture) -> None:
    await topic.mark(0)
    seen = await topic.caught_up()
    await topic.put("wh_0")
    await asyncio.wait_for(topic.table.wait_for(SubscriptionsPosition("one", seen.offset + 1)), SECONDS)
    assert topic.table.find("wh_0") is not None


async def test_a_position_beyond_the_end_is_not_waited_for(topic: TopicFixture) -> None:
    await topic.mark(0)
    await topic.caught_up()
    await asyncio.wait_for(topic.table.wait_for(SubscriptionsPosition("one", 2**62)), SECONDS)


async def test_a_position_on_a_deleted_topic_is_not_waited_for(topic: TopicFixture) -> None:
    await topic.mark(0)
    await topic.caught_up()
    await asyncio.wait_for(topic.table.wait_for(SubscriptionsPosition("another", 1_000_000)), SECONDS)


UNREADABLE = [
    ("wh_0", b"\xff\x00 junk"),
    ("wh_0", CODEC.encode(attempt())),
    (SENTINEL_KEY, b"junk"),
    (SENTINEL_KEY, b"{}"),
    (SENTINEL_KEY, b"[]"),
    (SENTINEL_KEY, b'{"incarnation": "one", "live": null}'),
]


async def test_a_stage_waits_for_a_webhook_of_a_newer_release(topic: TopicFixture) -> None:
    await topic.mark(1)
    await topic.put("wh_0", url="https://known.example.com")
    await topic.caught_up()
    await topic.write("wh_0", NEWER_CODEC.encode(webhook(id="wh_0", version=2)))
    catching_up = asyncio.create_task(topic.table.catch_up())
    await until(lambda: topic.url_of("wh_0") == "https://known.example.com")
    assert await is_waiting(catching_up)
    # A publisher of this release writes it again.
    await topic.put("wh_0", version=3, url="https://new.example.com")
    await asyncio.wait_for(catching_up, SECONDS)
    assert topic.url_of("wh_0") == "https://new.example.com"


async def test_a_newer_record_of_nobody_delays_nobody(topic: TopicFixture) -> None:
    await topic.mark(1)
    await topic.put("wh_0")
    await topic.write("wh_nobody", NEWER_CODEC.encode(webhook(id="wh_nobody")))
    await topic.caught_up()


async def test_an_invalid_record_leaves_the_webhook_as_it_was(topic: TopicFixture) -> None:
    await topic.mark(0)
    await topic.put("wh_0", url="https://known.example.com")
    for number, (key, value) in enumerate(UNREADABLE, start=1):
        await topic.write(key, value)
        await topic.put(f"wh_{number}")
        await topic.caught_up()
        assert topic.table.find(f"wh_{number}") is not None
    assert topic.url_of("wh_0") == "https://known.example.com"
    assert await topic.caught_up() == SubscriptionsPosition("one", 2 + 2 * len(UNREADABLE))
