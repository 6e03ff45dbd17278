"""The webhooks of SQL on their topic: the newest of each, and a sentinel that says when all are there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from builders import webhook
from fakes import (
    FakeClock,
    FakeEncryptionCheck,
    FakeKafka,
    FakeLease,
    FakeOutbox,
    FakeSubscriptions,
    FakeTelemetry,
    cancel_others,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.subscriptions_table import SENTINEL_KEY, VERSION_HEADER, Sentinel
from streams.core.webhook import Webhook
from streams.ports import Outgoing, Record
from streams.stages import publish as publish_module
from streams.stages.publish import LeaseLost, Publish, Reconciled
from streams.topics import SUBSCRIPTIONS

CODEC = AvroCodec()


class PublisherFixture:
    """A publisher, the database's dirty set before it and the topic behind it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.outbox = FakeOutbox()
        self.lease = FakeLease()
        self.rival = self.lease.rival()
        self.telemetry = FakeTelemetry()
        self.keys = FakeEncryptionCheck()
        self.incarnations = iter(["first", "second"])

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(self._publish()))

    def read(self) -> None:
        """Let the running publisher see what is on its topic now."""
        self._tail.find("")

    async def reconcile(self, may_delete: Callable[[Sequence[str]], bool]) -> Reconciled:
        subscriptions = self.subscriptions()
        subscriptions.find("")
        return await self._publish().reconcile(subscriptions.table, may_delete)

    def _publish(self) -> Publish:
        return Publish(
            self.outbox,
            self.lease,
            self.kafka,
            CODEC,
            self.telemetry,
            self.keys,
            self.clock,
            lambda: next(self.incarnations),
        )

    async def _run(self, publish: Publish) -> None:
        await publish.take_lease()
        self._tail = self.subscriptions()
        self.read()
        await publish.run(self._tail.table)

    def subscriptions(self) -> FakeSubscriptions:
        """A reader that starts at the beginning of the topic."""
        return FakeSubscriptions(self.kafka, CODEC)

    @property
    def topic(self) -> list[Record]:
        return self.kafka.topic(SUBSCRIPTIONS)

    @property
    def names(self) -> list[str]:
        return [(record.key or b"").decode() for record in self.topic]


@pytest_asyncio.fixture
async def it(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PublisherFixture]:
    monkeypatch.setattr(publish_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(publish_module, "RENEW_EVERY_SECONDS", 0)
    yield PublisherFixture()
    await cancel_others()


# -- the sentinel --------------------------------------------------------------------------------------------


async def test_the_sentinel_comes_last_and_counts_the_webhooks(it: PublisherFixture) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        it.outbox.put(webhook(id=webhook_id))
    it.start()
    await quiet()
    assert it.names == ["wh_a", "wh_b", SENTINEL_KEY]
    assert Sentinel.decode(it.topic[-1].value or b"") == Sentinel("first", 2, it.keys.ciphertext)


async def test_the_first_sentinel_waits_for_the_last_batch(
    it: PublisherFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_module, "BATCH_WEBHOOKS", 2)
    for number in range(5):
        it.outbox.put(webhook(id=f"wh_{number}"))
    it.start()
    await quiet()
    assert it.names == ["wh_0", "wh_1", "wh_2", "wh_3", "wh_4", SENTINEL_KEY]


async def test_no_webhooks_are_announced_too(it: PublisherFixture) -> None:
    it.start()
    await quiet()
    assert it.names == [SENTINEL_KEY]
    assert (await it.subscriptions().catch_up()).incarnation == "first"


async def test_the_sentinel_follows_the_number_of_webhooks(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    it.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    await quiet()
    assert it.names == ["wh_a", SENTINEL_KEY, "wh_a"]
    it.outbox.remove("wh_a")
    await quiet()
    assert it.names == ["wh_a", SENTINEL_KEY, "wh_a", "wh_a", SENTINEL_KEY]


async def test_a_restart_goes_on_with_the_topics_incarnation(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    await cancel_others()
    it.outbox.put(webhook(id="wh_b"))
    it.start()
    await quiet()
    assert it.names == ["wh_a", SENTINEL_KEY, "wh_b", SENTINEL_KEY]
    assert Sentinel.decode(it.topic[-1].value or b"") == Sentinel("first", 2, it.keys.ciphertext)


# -- versions ------------------------------------------------------------------------------------------------


async def test_each_change_is_published_with_its_version(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    it.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    await quiet()
    subscriptions = it.subscriptions()
    found = subscriptions.find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (2, "https://new.example.com")
    assert [dict(record.headers).get(VERSION_HEADER) for record in it.topic] == [b"1", None, b"2"]


async def test_a_deleted_webhook_leaves_a_tombstone_with_its_version(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    it.outbox.remove("wh_a")
    await quiet()
    tombstone = it.topic[2]
    assert (tombstone.value, tombstone.headers) == (None, ((VERSION_HEADER, b"2"),))
    assert it.subscriptions().find("wh_a") is None


async def test_a_change_during_a_produce_is_published_next(it: PublisherFixture) -> None:
    it.kafka.leave()
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    it.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    it.kafka.come_back()
    await quiet()
    found = it.subscriptions().find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (2, "https://new.example.com")


async def test_a_crash_after_the_acknowledgement_repeats_the_version(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.kafka.die_in(1, appended=True)
    it.start()
    await until(lambda: it.kafka.is_dead)
    await cancel_others()
    it.kafka.revive()
    it.start()
    await quiet()
    assert it.names == ["wh_a", "wh_a", SENTINEL_KEY]
    assert [dict(record.headers)[VERSION_HEADER] for record in it.topic[:2]] == [b"1", b"1"]
    assert it.subscriptions().find("wh_a") is not None


async def test_a_topic_that_lost_a_webhook_gets_it_again(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    await cancel_others()
    it.kafka = FakeKafka(FakeClock())
    it.start()
    await quiet()
    assert it.names == ["wh_a", SENTINEL_KEY]
    assert it.subscriptions().find("wh_a") is not None
    assert (await it.subscriptions().catch_up()).incarnation == "second"


async def test_an_old_publishers_sentinel_is_not_trusted(
    it: PublisherFixture,
) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    await cancel_others()
    left = it.topic[-1]
    it.kafka = FakeKafka(FakeClock())
    it.kafka.append(Outgoing(SUBSCRIPTIONS, left.key, left.value))
    it.start()
    await quiet()
    assert it.names == [SENTINEL_KEY, "wh_a", SENTINEL_KEY]
    assert (await it.subscriptions().catch_up()).incarnation == "second"


async def test_an_unknown_webhook_on_the_topic_stays(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    await cancel_others()
    it.outbox = FakeOutbox()
    it.start()
    await quiet()
    assert it.telemetry.logged_count("unknown_webhooks_on_subscriptions") == 1
    assert it.subscriptions().find("wh_a") is not None


# -- the lease, and outages ----------------------------------------------------------------------------------


async def test_a_publisher_that_loses_its_lease_stops(it: PublisherFixture) -> None:
    running = it.start()
    await quiet()
    it.lease.clock.advance(60)
    assert await it.rival.renew()
    with pytest.raises(LeaseLost):
        await running


async def test_a_second_publisher_waits_and_says_so_once(it: PublisherFixture) -> None:
    assert await it.rival.renew()
    it.outbox.put(webhook())
    it.start()
    await quiet()
    assert it.telemetry.logged_count("lease_held_elsewhere") == 1
    assert it.topic == []
    await it.rival.release()
    await until(lambda: len(it.topic) == 2)


async def test_a_publisher_that_ends_gives_its_lease_back(it: PublisherFixture) -> None:
    running = it.start()
    await quiet()
    assert it.lease.held
    running.cancel()
    await until(running.done)
    assert not it.lease.held


async def test_a_database_outage_is_waited_out_and_told_once(it: PublisherFixture) -> None:
    running = it.start()
    await quiet()
    it.outbox.away = it.lease.away = True
    it.outbox.put(webhook())
    await quiet()
    assert not running.done()
    assert it.telemetry.logged_count("database_unreachable") == 1
    it.outbox.away = it.lease.away = False
    await until(lambda: "wh_crm" in it.names)


async def test_a_publisher_may_end_during_an_outage(it: PublisherFixture) -> None:
    running = it.start()
    await quiet()
    it.lease.away = True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# -- another writer ------------------------------------------------------------------------------------------


def write(it: PublisherFixture, version: int, **changes: Any) -> None:
    """Somebody else's record of `wh_a`."""
    value = CODEC.encode(webhook(id="wh_a", version=version, **changes))
    it.kafka.append(Outgoing(SUBSCRIPTIONS, b"wh_a", value, ((VERSION_HEADER, b"%d" % version),)))


async def test_an_older_state_of_another_publisher_is_overwritten(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    it.start()
    await quiet()
    write(it, version=1)
    it.read()
    it.outbox.put(webhook(id="wh_b"))
    await quiet()
    last = CODEC.decode([record.value for record in it.topic if record.key == b"wh_a"][-1] or b"")
    assert isinstance(last, Webhook)
    assert (last.version, last.url) == (2, "https://new.example.com")
    assert it.telemetry.logged_count("another_writer_on_subscriptions") == 1


async def test_after_a_restore_versions_exceed_the_topics(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    write(it, version=9, url="https://lost.example.com")
    it.start()
    await quiet()
    found = it.subscriptions().find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (10, webhook().url)


async def test_a_reconciliation_asks_before_it_deletes(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_b"))
    write(it, version=9)
    asked: list[Sequence[str]] = []

    def refuse(webhook_ids: Sequence[str]) -> bool:
        asked.append(webhook_ids)
        return False

    assert await it.reconcile(refuse) == Reconciled(published=1, deleted=0, left=1)
    assert asked == [["wh_a"]]
    assert it.subscriptions().find("wh_a") is not None


async def test_a_reconciled_topic_has_what_the_database_has(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_b"))
    write(it, version=9)
    assert await it.reconcile(lambda webhook_ids: True) == Reconciled(published=1, deleted=1, left=0)
    subscriptions = it.subscriptions()
    assert subscriptions.find("wh_a") is None
    assert subscriptions.find("wh_b") is not None
    assert subscriptions.table.sentinel == Sentinel("first", 1, it.keys.ciphertext)
    assert await it.reconcile(lambda webhook_ids: True) == Reconciled(published=0, deleted=0, left=0)


# -- what comes back, and what Kafka refuses --------------------------------------------------------------------


async def test_a_webhook_restored_after_its_deletion_is_back(it: PublisherFixture) -> None:
    """The topic's tombstone is newer than what an older dump of SQL has."""
    it.outbox.put(webhook(id="wh_a"))
    it.outbox.put(webhook(id="wh_b"))
    tombstone = Outgoing(SUBSCRIPTIONS, b"wh_a", None, ((VERSION_HEADER, b"9"),))
    write(it, version=3)
    it.kafka.append(tombstone)
    running = it.subscriptions()
    running.find("")
    it.start()
    await quiet()
    for subscriptions in (running, it.subscriptions()):
        found = subscriptions.find("wh_a")
        assert found is not None
        assert found.version == 10
        assert subscriptions.table.is_complete()
    written = len(it.topic)
    it.read()
    await quiet()
    assert len(it.topic) == written


async def test_a_webhook_that_kafka_refuses_holds_no_other_up(it: PublisherFixture) -> None:
    it.kafka.most_bytes[SUBSCRIPTIONS] = 2000
    it.outbox.put(webhook(id="wh_large", packages=frozenset(f"pkg_{n:0100}" for n in range(30))))
    it.outbox.put(webhook(id="wh_small"))
    it.start()
    await quiet()
    subscriptions = it.subscriptions()
    assert subscriptions.find("wh_small") is not None
    assert subscriptions.table.is_complete()
    assert not await it.outbox.is_published("wh_large")
    assert it.telemetry.counts["webhooks_refused_total"] == 1
    it.outbox.put(webhook(id="wh_large"))
    await quiet()
    assert it.subscriptions().find("wh_large") is not None
    assert await it.outbox.is_published("wh_large")


async def test_a_webhook_that_cannot_be_encoded_holds_no_other_up(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_odd", max_concurrency="many"))
    it.outbox.put(webhook(id="wh_small"))
    it.start()
    await quiet()
    assert it.subscriptions().find("wh_small") is not None
    assert it.telemetry.counts["webhooks_refused_total"] == 1


async def test_a_sentinel_of_nonsense_is_written_over_at_once(it: PublisherFixture) -> None:
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    it.kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), b'{"incarnation": [], "live": Infinity}'))
    it.read()
    it.outbox.put(webhook(id="wh_b"))
    await quiet()
    assert it.names[-1] == SENTINEL_KEY
    assert Sentinel.decode(it.topic[-1].value or b"") == Sentinel("first", 2, it.keys.ciphertext)


# -- keys ------------------------------------------------------------------------------------------------------


async def test_with_the_wrong_encryption_keys_nothing_is_published(it: PublisherFixture) -> None:
    it.keys.wrong = True
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    assert it.topic == []
    assert it.telemetry.logged_count("encryption_keys_wrong") == 1
    it.keys.wrong = False
    await until(lambda: SENTINEL_KEY in it.names)


async def test_the_sentinel_carries_the_encryption_check(it: PublisherFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_module, "REPEAT_SENTINEL_SECONDS", 0)
    it.outbox.put(webhook(id="wh_a"))
    it.start()
    await quiet()
    await it.keys.reencrypt()
    it.outbox.put(webhook(id="wh_b"))
    await quiet()
    assert Sentinel.decode(it.topic[-1].value or b"").check == it.keys.ciphertext


async def test_a_webhook_that_no_stage_would_take_is_not_counted(it: PublisherFixture) -> None:
    """Its version comes from a clock that is days ahead: stages would wait for it for ever."""
    ahead = int((it.clock.now() + timedelta(days=3)).timestamp() * 1000)
    it.outbox.put(webhook(id="wh_ahead", version=1))
    it.outbox.put(webhook(id="wh_a"))
    it.outbox.set_version("wh_ahead", ahead)
    it.start()
    await quiet()
    subscriptions = it.subscriptions()
    assert subscriptions.find("wh_a") is not None
    assert subscriptions.table.is_complete()
    assert it.telemetry.counts["webhooks_refused_total"] == 1


async def test_with_wrong_keys_the_lease_is_left_to_others(it: PublisherFixture) -> None:
    it.keys.wrong = True
    it.start()
    await quiet()
    assert await it.rival.renew()


async def test_a_publisher_with_wrong_keys_releases_the_lease(
    it: PublisherFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_module, "RENEW_EVERY_SECONDS", 0)
    running = it.start()
    await until(lambda: SENTINEL_KEY in it.names)
    it.keys.wrong = True
    with pytest.raises(LeaseLost, match="SCORM_WEBHOOKS_ENCRYPTION_KEYS"):
        await running
    assert await it.rival.renew()
