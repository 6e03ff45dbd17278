"""`publish` writes the newest version of each webhook, and a sentinel when all are there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
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
    no_wait,
    postponed_work,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.failed_work import FIRST_RETRY_SECONDS
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel
from streams.core.webhooks.webhook import Webhook
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Record
from streams.stages.lease import LeaseKeeper, LeaseLost, LeaseTimes
from streams.stages.publish import Publish, PublishPacing, ReconcileResult
from streams.topics import SUBSCRIPTIONS

CODEC = AvroCodec()


class PublisherFixture:
    """A publisher, with the outbox that it reads and the topic that it writes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.outbox = FakeOutbox()
        self.lease = FakeLease()
        self.rival = self.lease.rival()
        self.telemetry = FakeTelemetry()
        self.outages = Outages(self.telemetry, sleep=no_wait)
        self.pacing = PublishPacing()
        self.lease_times = LeaseTimes(renew_interval=0, retry=0)
        self.keys = FakeEncryptionCheck()
        self.incarnations = iter(["first", "second"])

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._run())

    def read(self) -> None:
        """Let the running publisher read its topic."""
        self._tail.find("")

    async def reconcile(self, may_delete: Callable[[Sequence[Webhook]], bool]) -> ReconcileResult:
        subscriptions = self.subscriptions()
        subscriptions.find("")

        async def ask(unknown: Sequence[Webhook]) -> bool:
            return may_delete(unknown)

        keeper, done = self._keeper(), list[ReconcileResult]()

        async def once() -> None:
            done.append(await self._publish(keeper).reconcile(subscriptions.table, ask))

        await keeper.hold(once)
        return done[0]

    def _keeper(self) -> LeaseKeeper:
        return LeaseKeeper(self.lease, self.keys, self.telemetry, self.outages, self.lease_times)

    def _publish(self, keeper: LeaseKeeper) -> Publish:
        return Publish(
            self.outbox,
            keeper,
            self.kafka,
            CODEC,
            self.telemetry,
            self.keys,
            self.clock,
            lambda: next(self.incarnations),
            self.outages,
            postponed_work(self.telemetry, self.clock),
            self.pacing,
        )

    async def _run(self) -> None:
        keeper = self._keeper()
        await keeper.hold(lambda: self._work(self._publish(keeper)))

    async def _work(self, publish: Publish) -> None:
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
async def fixture() -> AsyncIterator[PublisherFixture]:
    yield PublisherFixture()
    await cancel_others()


# -- the sentinel --------------------------------------------------------------------------------------------


async def test_the_sentinel_comes_last_and_counts_the_webhooks(fixture: PublisherFixture) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        fixture.outbox.put(webhook(id=webhook_id))
    fixture.start()
    await quiet()
    assert fixture.names == ["wh_a", "wh_b", SENTINEL_KEY]
    assert Sentinel.decode(fixture.topic[-1].value or b"") == Sentinel("first", 2, fixture.keys.ciphertext)


async def test_the_first_sentinel_waits_for_the_last_batch(fixture: PublisherFixture) -> None:
    fixture.pacing = PublishPacing(batch_webhooks=2)
    for number in range(5):
        fixture.outbox.put(webhook(id=f"wh_{number}"))
    fixture.start()
    await quiet()
    assert fixture.names == ["wh_0", "wh_1", "wh_2", "wh_3", "wh_4", SENTINEL_KEY]


async def test_the_sentinel_is_written_without_webhooks(fixture: PublisherFixture) -> None:
    fixture.start()
    await quiet()
    assert fixture.names == [SENTINEL_KEY]
    assert (await fixture.subscriptions().catch_up()).incarnation == "first"


async def test_the_sentinel_follows_the_number_of_webhooks(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    # Its check of the keys is read when it is due, not at each change.
    await fixture.keys.reencrypt()
    fixture.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    await quiet()
    assert fixture.names == ["wh_a", SENTINEL_KEY, "wh_a"]
    fixture.outbox.remove("wh_a")
    await quiet()
    assert fixture.names == ["wh_a", SENTINEL_KEY, "wh_a", "wh_a", SENTINEL_KEY]


async def test_the_sentinel_is_repeated_regularly(fixture: PublisherFixture) -> None:
    # Stages compare their clocks with it.
    fixture.pacing = PublishPacing(sentinel_interval_seconds=0)
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    fixture.outbox.put(webhook(id="wh_a"))
    await quiet()
    assert fixture.names[-1] == SENTINEL_KEY


async def test_a_restart_keeps_the_topics_incarnation(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    await cancel_others()
    fixture.outbox.put(webhook(id="wh_b"))
    fixture.start()
    await quiet()
    assert fixture.names == ["wh_a", SENTINEL_KEY, "wh_b", SENTINEL_KEY]
    assert Sentinel.decode(fixture.topic[-1].value or b"") == Sentinel("first", 2, fixture.keys.ciphertext)


# -- versions ------------------------------------------------------------------------------------------------


async def test_each_change_is_published_with_its_version(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    fixture.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    await quiet()
    subscriptions = fixture.subscriptions()
    found = subscriptions.find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (2, "https://new.example.com")
    assert [dict(record.headers).get(VERSION_HEADER) for record in fixture.topic] == [b"1", None, b"2"]


async def test_a_deleted_webhook_leaves_a_tombstone_with_its_version(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    fixture.outbox.remove("wh_a")
    await quiet()
    tombstone = fixture.topic[2]
    assert (tombstone.value, tombstone.headers) == (None, ((VERSION_HEADER, b"2"),))
    assert fixture.subscriptions().find("wh_a") is None


async def test_a_change_during_a_produce_is_published_next(fixture: PublisherFixture) -> None:
    fixture.kafka.leave()
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    fixture.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    fixture.kafka.come_back()
    await quiet()
    found = fixture.subscriptions().find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (2, "https://new.example.com")


async def test_a_crash_after_the_acknowledgement_repeats_the_version(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.kafka.die_in(1, appended=True)
    fixture.start()
    await until(lambda: fixture.kafka.is_dead)
    await cancel_others()
    fixture.kafka.revive()
    fixture.start()
    await quiet()
    assert fixture.names == ["wh_a", "wh_a", SENTINEL_KEY]
    assert [dict(record.headers)[VERSION_HEADER] for record in fixture.topic[:2]] == [b"1", b"1"]
    assert fixture.subscriptions().find("wh_a") is not None


async def test_a_webhook_missing_on_the_topic_is_published_again(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    await cancel_others()
    fixture.kafka = FakeKafka(FakeClock())
    fixture.start()
    await quiet()
    assert fixture.names == ["wh_a", SENTINEL_KEY]
    assert fixture.subscriptions().find("wh_a") is not None
    assert (await fixture.subscriptions().catch_up()).incarnation == "second"


async def test_an_old_publishers_sentinel_is_not_trusted(
    fixture: PublisherFixture,
) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    await cancel_others()
    left = fixture.topic[-1]
    fixture.kafka = FakeKafka(FakeClock())
    fixture.kafka.append(Outgoing(SUBSCRIPTIONS, left.key, left.value))
    fixture.start()
    await quiet()
    assert fixture.names == [SENTINEL_KEY, "wh_a", SENTINEL_KEY]
    assert (await fixture.subscriptions().catch_up()).incarnation == "second"


async def test_an_unknown_webhook_on_the_topic_stays(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    await cancel_others()
    fixture.outbox = FakeOutbox()
    fixture.start()
    await quiet()
    assert fixture.telemetry.logged_count("unknown_webhooks_on_subscriptions") == 1
    assert fixture.subscriptions().find("wh_a") is not None


# -- the lease, and outages ----------------------------------------------------------------------------------


async def test_a_publisher_that_loses_its_lease_stops(fixture: PublisherFixture) -> None:
    running = fixture.start()
    await quiet()
    fixture.lease.clock.advance(60)
    assert await fixture.rival.renew()
    with pytest.raises(LeaseLost):
        await running


async def test_a_second_publisher_waits_and_logs_it_once(fixture: PublisherFixture) -> None:
    assert await fixture.rival.renew()
    fixture.outbox.put(webhook())
    fixture.start()
    await quiet()
    assert fixture.telemetry.logged_count("lease_held_elsewhere") == 1
    assert fixture.topic == []
    await fixture.rival.release()
    await until(lambda: len(fixture.topic) == 2)


async def test_a_renewal_without_an_answer_is_tried_again(
    fixture: PublisherFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture.lease_times = LeaseTimes(renew_interval=0, renewal_timeout=0.01, retry=0)
    renew, dead = fixture.lease.renew, [asyncio.Event(), asyncio.Event()]

    async def renew_over_a_dead_connection() -> bool:
        if dead:
            connection = dead.pop()
            with suppress(asyncio.CancelledError):
                await connection.wait()
            # As the driver does: it waits for the server's answer to its cancellation.
            await connection.wait()
        return await renew()

    monkeypatch.setattr(fixture.lease, "renew", renew_over_a_dead_connection)
    fixture.outbox.put(webhook(id="wh_a"))
    running = fixture.start()
    await until(lambda: "wh_a" in fixture.names)
    assert not running.done()
    assert fixture.telemetry.logged_count("database_reachable") == 1


async def test_a_lease_is_renewed_while_the_pool_is_busy(
    fixture: PublisherFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = fixture.start()
    await quiet()
    # Every other query waits for a connection.
    monkeypatch.setattr(fixture.keys, "require_right_keys", asyncio.Event().wait)
    clock, ends = fixture.lease.clock, fixture.lease.ends
    for _ in range(3):
        clock.advance(14)
        await until(lambda: ends["publisher"] > clock.now() + timedelta(seconds=14))
    assert not running.done()


async def test_a_publisher_that_ends_releases_its_lease(fixture: PublisherFixture) -> None:
    running = fixture.start()
    await quiet()
    assert fixture.lease.held
    running.cancel()
    await until(running.done)
    assert not fixture.lease.held


async def test_a_database_outage_is_logged_once(fixture: PublisherFixture) -> None:
    running = fixture.start()
    await quiet()
    fixture.outbox.away = fixture.lease.away = True
    fixture.outbox.put(webhook())
    await quiet()
    assert not running.done()
    assert fixture.telemetry.logged_count("database_unreachable") == 1
    fixture.outbox.away = fixture.lease.away = False
    await until(lambda: "wh_crm" in fixture.names)


async def test_a_publisher_may_end_during_an_outage(fixture: PublisherFixture) -> None:
    running = fixture.start()
    await quiet()
    fixture.lease.away = True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# -- another writer ------------------------------------------------------------------------------------------


def write_as_another(fixture: PublisherFixture, version: int, id: str = "wh_a", **changes: Any) -> None:
    """Write a webhook's record as another publisher."""
    value = CODEC.encode(webhook(id=id, version=version, **changes))
    fixture.kafka.append(Outgoing(SUBSCRIPTIONS, id.encode(), value, ((VERSION_HEADER, b"%d" % version),)))


async def test_an_older_state_of_another_publisher_is_overwritten(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.outbox.put(webhook(id="wh_a", url="https://new.example.com"))
    fixture.start()
    await quiet()
    write_as_another(fixture, version=1)
    fixture.read()
    fixture.outbox.put(webhook(id="wh_b"))
    await quiet()
    last = CODEC.decode([record.value for record in fixture.topic if record.key == b"wh_a"][-1] or b"")
    assert isinstance(last, Webhook)
    assert (last.version, last.url) == (2, "https://new.example.com")
    assert fixture.telemetry.logged_count("another_writer_on_subscriptions") == 1


async def test_what_is_overtaken_meanwhile_is_published_again_too(
    fixture: PublisherFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        fixture.outbox.put(webhook(id=webhook_id, url="https://old.example.com"))
        fixture.outbox.put(webhook(id=webhook_id))
    fixture.start()
    await quiet()
    owe = fixture.outbox.mark_dirty

    async def owe_while_another_writes(newest: Mapping[str, int]) -> None:
        await owe(newest)
        if "wh_b" not in newest:
            write_as_another(fixture, version=1, id="wh_b", url="https://old.example.com")
            fixture.read()

    monkeypatch.setattr(fixture.outbox, "mark_dirty", owe_while_another_writes)
    write_as_another(fixture, version=1, url="https://old.example.com")
    fixture.read()
    for changed in ("wh_c", "wh_d"):
        fixture.outbox.put(webhook(id=changed))
        await quiet()
    last = {record.key: record.value for record in fixture.topic}
    states = [CODEC.decode(last[key] or b"") for key in (b"wh_a", b"wh_b")]
    assert [state.url for state in states if isinstance(state, Webhook)] == [webhook().url] * 2


async def test_after_a_restore_versions_exceed_the_topics(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    write_as_another(fixture, version=9, url="https://lost.example.com")
    fixture.start()
    await quiet()
    found = fixture.subscriptions().find("wh_a")
    assert found is not None
    assert (found.version, found.url) == (10, webhook().url)


async def test_all_webhooks_are_compared_in_turn(fixture: PublisherFixture) -> None:
    """A newer state of another writer is replaced, and no look reads more than a portion."""
    fixture.outbox = FakeOutbox(rows_at_once=2)
    fixture.pacing = PublishPacing(compare_interval_seconds=0)
    for number in range(5):
        fixture.outbox.put(webhook(id=f"wh_{number}"))
    fixture.start()
    await quiet()
    fixture.outbox.compared.clear()
    for number in range(5):
        write_as_another(fixture, version=900, id=f"wh_{number}", url="https://other.example.com")
    fixture.read()
    for _ in range(4):
        fixture.outbox.wake()
        await quiet()
        fixture.read()
    found = [fixture.subscriptions().find(f"wh_{number}") for number in range(5)]
    assert [one.url for one in found if one] == [webhook().url] * 5
    assert max(map(len, fixture.outbox.compared)) == 2


async def test_a_reconciliation_asks_before_it_deletes(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_b"))
    write_as_another(fixture, version=9)
    asked: list[Sequence[tuple[str, str, str]]] = []

    def refuse(unknown: Sequence[Webhook]) -> bool:
        asked.append([(one.id, one.account_id, one.url) for one in unknown])
        return False

    assert await fixture.reconcile(refuse) == ReconcileResult(published=1, deleted=0, kept=1)
    assert asked == [[("wh_a", "acme", "https://crm.example.com/hooks")]]
    assert fixture.subscriptions().find("wh_a") is not None


async def test_a_reconciled_topic_has_what_the_database_has(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_b"))
    write_as_another(fixture, version=9)
    assert await fixture.reconcile(lambda webhook_ids: True) == ReconcileResult(published=1, deleted=1, kept=0)
    subscriptions = fixture.subscriptions()
    assert subscriptions.find("wh_a") is None
    assert subscriptions.find("wh_b") is not None
    assert subscriptions.table.sentinel == Sentinel("first", 1, fixture.keys.ciphertext)
    assert await fixture.reconcile(lambda webhook_ids: True) == ReconcileResult(published=1, deleted=0, kept=0)


async def test_a_reconciliation_deletes_with_the_next_version(fixture: PublisherFixture) -> None:
    """A later one is a person's deletion, which is repeated in a restored database."""
    write_as_another(fixture, version=9)
    await fixture.reconcile(lambda webhook_ids: True)
    subscriptions = fixture.subscriptions()
    assert subscriptions.find("wh_a") is None
    assert subscriptions.table.tombstones == {"wh_a": 10}


async def test_a_reconciliation_restarts_the_health_of_webhooks(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_b", health_epoch=3))
    await fixture.reconcile(lambda webhook_ids: True)
    first = fixture.subscriptions().find("wh_b")
    await fixture.reconcile(lambda webhook_ids: True)
    second = fixture.subscriptions().find("wh_b")
    assert first
    assert second
    assert 3 < first.health_epoch < second.health_epoch


async def test_an_answer_that_came_too_late_deletes_nothing(fixture: PublisherFixture) -> None:
    write_as_another(fixture, version=9)

    def answer_after_a_minute(webhook_ids: Sequence[Webhook]) -> bool:
        fixture.lease.clock.advance(60)
        fixture.lease.ends = fixture.rival.ends = {"rival": fixture.lease.clock.now()}
        return True

    with pytest.raises(LeaseLost):
        await fixture.reconcile(answer_after_a_minute)
    assert fixture.subscriptions().find("wh_a") is not None


# -- restored and refused webhooks ------------------------------------------------------------------------------


async def test_a_webhook_restored_after_its_deletion_is_back(fixture: PublisherFixture) -> None:
    """The topic's tombstone is newer than the restored database."""
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.outbox.put(webhook(id="wh_b"))
    tombstone = Outgoing(SUBSCRIPTIONS, b"wh_a", None, ((VERSION_HEADER, b"9"),))
    write_as_another(fixture, version=3)
    fixture.kafka.append(tombstone)
    running = fixture.subscriptions()
    running.find("")
    fixture.start()
    await quiet()
    for subscriptions in (running, fixture.subscriptions()):
        found = subscriptions.find("wh_a")
        assert found is not None
        assert found.version == 10
        assert subscriptions.table.is_complete()
    written = len(fixture.topic)
    fixture.read()
    await quiet()
    assert len(fixture.topic) == written


async def test_a_webhook_that_kafka_refuses_blocks_no_other(fixture: PublisherFixture) -> None:
    fixture.kafka.most_bytes[SUBSCRIPTIONS] = 2000
    fixture.outbox.put(webhook(id="wh_large", packages=frozenset(f"pkg_{n:0100}" for n in range(30))))
    fixture.outbox.put(webhook(id="wh_small"))
    fixture.start()
    await quiet()
    subscriptions = fixture.subscriptions()
    assert subscriptions.find("wh_small") is not None
    assert subscriptions.table.is_complete()
    assert not await fixture.outbox.is_published("wh_large")
    assert fixture.telemetry.series['work_failed_total{kind="webhook"}'] == 1
    [line] = fixture.telemetry.fields_of("work_postponed")
    assert (line["work_id"], line["account_id"], line["why"]) == ("wh_large", "acme", "too large")
    fixture.outbox.put(webhook(id="wh_large"))
    await quiet()
    assert fixture.subscriptions().find("wh_large") is not None
    assert await fixture.outbox.is_published("wh_large")


async def test_a_refused_webhook_is_tried_again_later(fixture: PublisherFixture) -> None:
    fixture.kafka.most_bytes[SUBSCRIPTIONS] = 2000
    fixture.outbox.put(webhook(id="wh_large", packages=frozenset(f"pkg_{n:0100}" for n in range(30))))
    fixture.start()
    await quiet()
    fixture.kafka.most_bytes.clear()
    fixture.outbox.put(webhook(id="wh_small"))
    await quiet()
    assert not await fixture.outbox.is_published("wh_large")
    fixture.clock.advance(FIRST_RETRY_SECONDS)
    fixture.outbox.put(webhook(id="wh_small"))
    await until(lambda: fixture.subscriptions().find("wh_large") is not None)
    await quiet()
    assert fixture.telemetry.fields_of("work_resumed") == [{"kind": "webhook", "work_id": "wh_large"}]


async def test_a_batch_of_refused_webhooks_blocks_no_other(fixture: PublisherFixture) -> None:
    fixture.pacing = PublishPacing(batch_webhooks=1)
    fixture.outbox.put(webhook(id="wh_odd", max_concurrency="many"))
    fixture.outbox.put(webhook(id="wh_small"))
    fixture.start()
    await quiet()
    assert fixture.subscriptions().find("wh_small") is not None


async def test_a_webhook_that_cannot_be_encoded_blocks_no_other(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_odd", max_concurrency="many"))
    fixture.outbox.put(webhook(id="wh_small"))
    fixture.start()
    await quiet()
    assert fixture.subscriptions().find("wh_small") is not None
    assert fixture.telemetry.counts["work_failed_total"] == 1


async def test_an_invalid_sentinel_is_overwritten_at_once(fixture: PublisherFixture) -> None:
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    fixture.kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), b'{"incarnation": [], "live": Infinity}'))
    fixture.read()
    # The number of webhooks stays the same: nothing else makes the publisher write it.
    fixture.outbox.put(webhook(id="wh_a"))
    await quiet()
    assert fixture.names[-1] == SENTINEL_KEY
    assert Sentinel.decode(fixture.topic[-1].value or b"") == Sentinel("first", 1, fixture.keys.ciphertext)


# -- keys ------------------------------------------------------------------------------------------------------


async def test_with_the_wrong_encryption_keys_nothing_is_published(fixture: PublisherFixture) -> None:
    fixture.keys.wrong = True
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    assert fixture.topic == []
    assert fixture.telemetry.logged_count("encryption_keys_wrong") == 1
    fixture.keys.wrong = False
    await until(lambda: SENTINEL_KEY in fixture.names)


async def test_the_sentinel_carries_the_encryption_check(fixture: PublisherFixture) -> None:
    fixture.pacing = PublishPacing(sentinel_interval_seconds=0)
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.start()
    await quiet()
    await fixture.keys.reencrypt()
    fixture.outbox.put(webhook(id="wh_b"))
    await quiet()
    assert Sentinel.decode(fixture.topic[-1].value or b"").check == fixture.keys.ciphertext


async def test_a_webhook_that_stages_refuse_is_not_counted(fixture: PublisherFixture) -> None:
    """Its version is from a clock days ahead, so stages refuse it."""
    ahead = int((fixture.clock.now() + timedelta(days=3)).timestamp() * 1000)
    fixture.outbox.put(webhook(id="wh_ahead", version=1))
    fixture.outbox.put(webhook(id="wh_a"))
    fixture.outbox.set_version("wh_ahead", ahead)
    fixture.start()
    await quiet()
    subscriptions = fixture.subscriptions()
    assert subscriptions.find("wh_a") is not None
    assert subscriptions.table.is_complete()
    assert fixture.telemetry.counts["work_failed_total"] == 1


async def test_with_wrong_keys_the_lease_is_not_taken(fixture: PublisherFixture) -> None:
    fixture.keys.wrong = True
    fixture.start()
    await quiet()
    assert await fixture.rival.renew()


async def test_a_publisher_with_wrong_keys_releases_the_lease(fixture: PublisherFixture) -> None:
    running = fixture.start()
    await until(lambda: SENTINEL_KEY in fixture.names)
    fixture.keys.wrong = True
    with pytest.raises(LeaseLost, match="SCORM_WEBHOOKS_ENCRYPTION_KEYS"):
        await running
    assert await fixture.rival.renew()
