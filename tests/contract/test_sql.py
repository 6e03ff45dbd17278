"""What the stages rely on in SQL, on SQLite and on a real PostgreSQL alike."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL

from builders import NOON, attempt, dead_letter, delivery, webhook
from fakes import FakeClock, FakeRecorder, FakeReport
from streams.adapters.sql import migrate
from streams.adapters.sql.database import Database
from streams.adapters.sql.database import database_url as url_of
from streams.adapters.sql.delivery_log import SqlDeliveryLog
from streams.adapters.sql.outbox import LEASE_SECONDS, SqlLease, SqlOutbox
from streams.adapters.sql.recorder import SqlRecorder
from streams.adapters.sql.registry import SqlAccounts, SqlWebhooks
from streams.adapters.sql.tables import attempts, mails
from streams.adapters.sql.versions import make_dirty
from streams.core.account import Account, ApiKey, DeliveryFilter
from streams.core.attempt import Attempt, DeadLetter, Followed
from streams.core.delivery import Delivery, HoldReason, State
from streams.core.errors import Refused
from streams.core.outcome import Kind
from streams.core.standing import Fact, Tally, fold
from streams.core.webhook import PauseReason, Registration, Status


@dataclass
class Store:
    """A migrated database with one account and one webhook of it."""

    database: Database
    clock: FakeClock
    recorder: SqlRecorder
    webhooks: SqlWebhooks
    outbox: SqlOutbox
    log: SqlDeliveryLog

    async def count(self, table: object) -> int:
        async with self.database.reading() as connection:
            return int(await connection.scalar(select(func.count()).select_from(table)) or 0)  # type: ignore[arg-type]


@pytest.fixture
def url(database_url: str) -> URL:
    return url_of(database_url)


@pytest.fixture
async def store(url: URL) -> AsyncIterator[Store]:
    migrate.upgrade(url)
    database, clock = Database(url), FakeClock()
    ids = iter(range(1, 1_000_000))
    recorder = SqlRecorder(database, clock, FakeReport(), lambda prefix: f"{prefix}_{next(ids)}")
    account = Account("acme", "Acme", ("ops@acme.example",), NOON)
    await SqlAccounts(database).add(account, ApiKey("key_1", "acme", "first", "sk_", "hash", NOON))
    store = Store(
        database, clock, recorder, SqlWebhooks(database, clock), SqlOutbox(database), SqlDeliveryLog(database)
    )
    await store.webhooks.add(Registration(webhook(), NOON))
    yield store
    await database.close()


def failed(number: int, **changes: object) -> Fact:
    """Attempt `number` of an event of its own, a second after the one before."""
    start = NOON + timedelta(seconds=number)
    made = attempt(
        event_id=f"evt_{number}",
        started_at=start,
        ended_at=start + timedelta(milliseconds=5),
        kind=Kind.SERVER_ERROR,
        followed=Followed.TIER,
        tier="30s",
        status=500,
    )
    return Fact(replace(made, **changes), start)  # type: ignore[arg-type]


def history(event_id: str) -> list[Fact]:
    """What can happen to one delivery: it waits, is tried, held, given up, replayed, and answered at last."""
    first = delivery(event_id=event_id)
    nouns: list[Delivery | Attempt | DeadLetter] = [
        *(replace(first, step=step) for step in (1, 3)),
        first.held(HoldReason.PAUSED, "pause_1", attempted=False),
        dead_letter(delivery=replace(first, step=7, attempt=7)),
        *(replace(first, generation=2, step=step) for step in (8, 10)),
        *(attempt(event_id=event_id, generation=1, step=step, number=step, followed=Followed.DONE) for step in (2, 4)),
        attempt(event_id=event_id, generation=2, step=9, followed=Followed.TIER, tier="30s", kind=Kind.SERVER_ERROR),
        attempt(event_id=event_id, generation=2, step=11, number=2, followed=Followed.DONE),
    ]
    return [Fact(noun, NOON + timedelta(seconds=second)) for second, noun in enumerate(nouns)]


HISTORY = history("evt_1") + history("evt_2")


async def publish_all(store: Store) -> None:
    for due in await store.outbox.due(10):
        await store.outbox.published(due, NOON)


# -- recorder --------------------------------------------------------------------------------------------------


async def test_a_batch_that_is_recorded_twice_changes_nothing(store: Store) -> None:
    batch = fold([Fact(delivery(), NOON), Fact(attempt(), NOON)])
    await store.recorder.record(batch)
    once = await store.log.find(delivery().id)
    await store.recorder.record(batch)
    assert await store.log.find(delivery().id) == once
    assert once is not None
    assert (once.standing.state, once.body, len(once.attempts)) == (State.DELIVERED, delivery().body, 1)


async def test_random_batches_in_any_order_leave_what_the_fake_of_the_stages_keeps(store: Store) -> None:
    dice, fake = random.Random(7), FakeRecorder()
    for _ in range(60):
        batch = fold(dice.choices(HISTORY, k=dice.randint(1, 6)))
        await store.recorder.record(batch)
        await fake.record(batch)
        stored = {standing.delivery_id: standing for standing in await store.log.list(DeliveryFilter())}
        assert stored == fake.standings
    assert await store.count(attempts) == len(fake.attempts)
    for delivery_id, standing in fake.standings.items():
        seen = await store.log.find(delivery_id)
        assert seen is not None
        assert seen.body == fake.bodies.get((standing.account_id, standing.event_id), b"")


async def test_five_failures_in_a_row_pause_once_owe_one_mail_and_make_the_webhook_due(store: Store) -> None:
    await publish_all(store)
    facts = [failed(number) for number in range(1, 8)]
    await store.recorder.record(fold(facts[:4]))
    assert await store.outbox.due(10) == []
    for fact in facts[4:]:
        await store.recorder.record(fold([fact]))
    [due] = await store.outbox.due(10)
    assert due.webhook
    assert due.webhook.pause
    assert (due.webhook.status, due.webhook.pause.reason) == (Status.PAUSED, PauseReason.FAILURES)
    assert await store.count(mails) == 1


async def test_failures_of_an_older_health_epoch_do_not_count(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, health_epoch=2)))
    await store.recorder.record(fold([failed(number) for number in range(1, 9)]))
    [registration] = await store.webhooks.list()
    assert registration.webhook.status is Status.ACTIVE


async def test_an_answer_of_any_bytes_is_stored(store: Store) -> None:
    wild = attempt(answer=bytes(range(256)))
    await store.recorder.record(fold([Fact(wild, NOON)]))
    seen = await store.log.find(wild.delivery_id)
    assert seen is not None
    assert seen.attempts[0].answer == bytes(range(256))


async def test_a_row_that_the_database_refuses_is_refused_and_not_waited_for(store: Store) -> None:
    poison: Attempt = attempt(words="a\0b")
    if store.database.is_sqlite:  # which takes a NUL in a text
        await store.recorder.record(fold([Fact(poison, NOON)]))
        assert await store.count(attempts) == 1
        return
    with pytest.raises(Refused, match="NUL"):
        await store.recorder.record(fold([Fact(poison, NOON)]))
    assert await store.count(attempts) == 0


# -- outbox and lease ------------------------------------------------------------------------------------------


async def test_a_change_while_the_older_version_was_being_published_stays_due(store: Store) -> None:
    [older] = await store.outbox.due(10)
    await store.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    await store.outbox.published(older, NOON)
    [newer] = await store.outbox.due(10)
    assert newer.version > older.version
    assert not await store.outbox.is_published("wh_crm")


async def test_a_comparison_that_began_before_a_change_does_not_make_the_older_version_due(store: Store) -> None:
    [older] = await store.outbox.due(10)
    await store.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    insert = sqlite_insert if store.database.is_sqlite else postgres_insert
    async with store.database.transaction() as connection:
        await make_dirty(connection, insert, "wh_crm", older.version)
    await store.outbox.published(older, NOON)
    assert not await store.outbox.is_published("wh_crm")


async def test_versions_grow_even_when_the_clock_goes_back(store: Store) -> None:
    versions = []
    for description in ("one", "two", "three"):
        store.clock.advance(-3600) if description == "two" else None
        changed = await store.webhooks.change(
            "wh_crm",
            lambda r, text=description: replace(r, description=text),  # type: ignore[misc]
        )
        assert changed is not None
        versions.append(changed.webhook.version)
    assert versions == sorted(set(versions))


async def test_a_webhook_was_created_when_its_first_record_was_appended(store: Store) -> None:
    [first] = await store.outbox.due(10)
    await store.outbox.published(first, NOON)
    await store.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    [second] = await store.outbox.due(10)
    await store.outbox.published(second, NOON + timedelta(hours=1))
    [registration] = await store.webhooks.list()
    assert registration.webhook.created_at == NOON


async def test_a_deleted_webhook_is_due_as_a_tombstone_and_listed_no_more(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: None)
    assert [due.webhook for due in await store.outbox.due(10)] == [None]
    assert await store.webhooks.list() == []
    assert await store.webhooks.change("wh_crm", lambda r: r) is None


async def test_comparing_with_the_topic_makes_due_what_differs_and_names_strangers(store: Store) -> None:
    [due] = await store.outbox.due(10)
    await publish_all(store)
    assert await store.outbox.compare({"wh_crm": due.version}) == []
    assert await store.outbox.due(10) == []
    assert await store.outbox.compare({"wh_ghost": 1}) == ["wh_ghost"]
    assert [again.webhook_id for again in await store.outbox.due(10)] == ["wh_crm"]


async def test_one_publisher_holds_the_lease_until_it_lets_go_or_stops_renewing(store: Store) -> None:
    first = SqlLease(store.database, store.clock, "publish", "first")
    second = SqlLease(store.database, store.clock, "publish", "second")
    assert (await first.renew(), await second.renew(), await first.renew()) == (True, False, True)
    store.clock.advance(LEASE_SECONDS + 1)
    assert (await second.renew(), await first.renew()) == (True, False)
    await second.release()
    assert await first.renew()


# -- reading ---------------------------------------------------------------------------------------------------


async def test_deliveries_are_listed_newest_first_and_by_every_filter(store: Store) -> None:
    facts = [
        Fact(delivery(event_id="evt_1", first_seen_at=NOON), NOON),
        Fact(delivery(event_id="evt_2", first_seen_at=NOON + timedelta(seconds=2), webhook_id="wh_lrs"), NOON),
        Fact(delivery(event_id="evt_3", first_seen_at=NOON + timedelta(seconds=1), account_id="other"), NOON),
        Fact(dead_letter(delivery=delivery(event_id="evt_4", first_seen_at=NOON - timedelta(seconds=1))), NOON),
    ]
    await store.recorder.record(fold(facts))

    async def listed(**wanted: Any) -> list[str]:
        return [standing.event_id for standing in await store.log.list(DeliveryFilter(**wanted))]

    assert await listed() == ["evt_2", "evt_3", "evt_1", "evt_4"]
    assert await listed(limit=2) == ["evt_2", "evt_3"]
    assert await listed(account_id="other") == ["evt_3"]
    assert await listed(webhook_id="wh_lrs") == ["evt_2"]
    assert await listed(event_id="evt_1") == ["evt_1"]
    assert await listed(state=State.DEAD) == ["evt_4"]
    assert await listed(account_id="acme", state=State.WAITING) == ["evt_2", "evt_1"]
    assert await listed(account_id="nobody") == []
    assert await store.log.find("no such delivery") is None
    tallies = await store.log.tally()
    assert set(tallies["wh_crm"]) == {Tally(State.WAITING, None, None, 2), Tally(State.DEAD, None, "exhausted", 1)}
    assert list(tallies["wh_lrs"]) == [Tally(State.WAITING, None, None, 1)]
