"""A changed webhook is due until its newest version is on the topic."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, webhook
from contract.stores import SqlStore, Store, publish_all
from fakes import webhooks as fake_webhooks
from streams.adapters.sql.webhooks import outbox as outbox_module
from streams.adapters.sql.webhooks.outbox import SqlOutbox
from streams.core.errors import RowRefused, Unavailable
from streams.core.webhooks.webhook import Registration
from streams.ports.webhooks import DueChange


async def describe(store: Store, text: str, webhook_id: str = "wh_crm") -> int:
    """Change a webhook. Returns its version."""
    changed = await store.webhooks.change(webhook_id, lambda r: replace(r, description=text))
    assert changed is not None
    return changed.webhook.version


async def due_ids(store: Store, limit: int = 10) -> Sequence[str]:
    return [due.webhook_id for due in await store.outbox.list_due(limit)]


# -- what people change ----------------------------------------------------------------------------------------


async def test_versions_grow_even_when_the_clock_goes_back(store: Store) -> None:
    versions = []
    for description in ("one", "two", "three"):
        store.clock.advance(-3600) if description == "two" else None
        versions.append(await describe(store, description))
    assert versions == sorted(set(versions))


async def test_a_change_that_changes_nothing_has_no_version_of_its_own(store: Store) -> None:
    version = await describe(store, "same")
    await publish_all(store)
    assert await describe(store, "same") == version
    assert await due_ids(store) == []


async def test_an_id_that_is_taken_is_refused(store: Store) -> None:
    with pytest.raises(RowRefused):
        await store.webhooks.add(Registration(webhook(url="https://thief.example.com"), NOON))
    [known] = await store.webhooks.list()
    assert known.url == webhook().url


async def test_webhooks_are_listed_by_account_oldest_first(store: Store) -> None:
    await store.webhooks.add(Registration(webhook(id="wh_older"), NOON - timedelta(days=1)))
    assert [found.id for found in await store.webhooks.list()] == ["wh_older", "wh_crm"]
    assert len(await store.webhooks.list("acme")) == 2
    assert await store.webhooks.list("nobody") == []


async def test_a_page_of_webhooks_stays_within_its_bytes(store: Store) -> None:
    scope = frozenset(f"pkg_{number}" for number in range(100))
    for number in range(200):
        large = webhook(
            id=f"wh_{number:03}", packages=scope, encrypted_headers="x", url="https://a.example/" + "u" * 2000
        )
        await store.webhooks.add(Registration(large, NOON, description="\x01" * 500))
    page = await store.webhooks.page("acme", None, 500)
    rest = await store.webhooks.page("acme", page.next_cursor, 500)
    found = [*page.rows, *rest.rows]
    assert 1 < len(page.rows) < 200
    assert [one.id for one in found] == ["wh_crm", *(f"wh_{number:03}" for number in reversed(range(200)))]
    assert (found[1].packages_count, found[1].dispatches_count, found[1].has_headers) == (100, 0, True)
    assert list(await store.webhooks.find_many("acme", ["wh_007"])) == [one for one in found if one.id == "wh_007"]


async def test_a_deleted_webhook_is_due_as_a_tombstone(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: None)
    assert [due.webhook for due in await store.outbox.list_due(10)] == [None]
    assert await store.webhooks.list() == []
    assert await store.webhooks.change("wh_crm", lambda r: r) is None


async def test_large_webhooks_are_due_in_portions(database: SqlStore) -> None:
    await publish_all(database)
    scope = frozenset(f"pkg_{number:0100}" for number in range(10))
    for number in range(6):
        await database.webhooks.add(Registration(webhook(id=f"wh_{number}", packages=scope), NOON))
    portions: list[list[str]] = []
    outbox = SqlOutbox(database.database, database.clock, max_batch_characters=3500)
    while due := await outbox.list_due(5):
        portions.append([one.webhook_id for one in due])
        await outbox.mark_published([(one, NOON) for one in due])
    assert portions == [["wh_0", "wh_1", "wh_2"], ["wh_3", "wh_4", "wh_5"]]


async def test_a_refused_version_is_not_due(store: Store) -> None:
    await store.webhooks.add(Registration(webhook(id="wh_new"), NOON))
    [refused, other] = await store.outbox.list_due(10)
    versions = {refused.webhook_id: refused.version}
    assert await store.outbox.list_due(1, versions) == [other]
    await describe(store, "new", refused.webhook_id)
    assert len(await store.outbox.list_due(10, versions)) == 2


# -- what the publisher does -----------------------------------------------------------------------------------


async def test_a_published_webhook_is_not_due(store: Store) -> None:
    assert not await store.propagation.is_published("wh_crm")
    await publish_all(store)
    assert await due_ids(store) == []
    assert await store.propagation.is_published("wh_crm")


async def test_the_oldest_change_is_due_first_up_to_the_limit(store: Store) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        store.clock.advance(1)
        await store.webhooks.add(Registration(webhook(id=webhook_id), NOON))
    store.clock.advance(1)
    await describe(store, "changed last")
    assert await due_ids(store) == ["wh_a", "wh_b", "wh_crm"]
    assert await due_ids(store, limit=2) == ["wh_a", "wh_b"]


async def test_a_change_during_a_publication_stays_due(store: Store) -> None:
    [older] = await store.outbox.list_due(10)
    await describe(store, "newer")
    await store.outbox.mark_published([(older, NOON)])
    [newer] = await store.outbox.list_due(10)
    assert newer.version > older.version
    assert not await store.propagation.is_published("wh_crm")


async def test_webhooks_published_together_are_not_due(store: Store) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        await store.webhooks.add(Registration(webhook(id=webhook_id), NOON))
    first, *others = await store.outbox.list_due(10)
    await store.outbox.mark_published([(other, NOON) for other in others])
    assert await store.outbox.list_due(10) == [first]


async def test_the_first_record_of_a_webhook_sets_its_creation(store: Store) -> None:
    [first] = await store.outbox.list_due(10)
    assert first.webhook
    assert first.webhook.created_at is None
    await store.outbox.mark_published([(first, NOON)])
    await describe(store, "newer")
    [second] = await store.outbox.list_due(10)
    await store.outbox.mark_published([(second, NOON + timedelta(hours=1))])
    registration = await store.webhooks.find("wh_crm")
    assert registration
    assert registration.webhook.created_at == NOON


async def test_a_comparison_makes_differences_due(store: Store) -> None:
    [due] = await store.outbox.list_due(10)
    await publish_all(store)
    assert await store.outbox.reconcile({"wh_crm": due.version}, {}) == []
    assert await store.outbox.list_due(10) == []
    assert await store.outbox.reconcile({"wh_ghost": 1}, {}) == ["wh_ghost"]
    assert await due_ids(store) == ["wh_crm"]


@pytest.fixture
def _small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "COMPARE_BATCH_ROWS", 2)
    monkeypatch.setattr(fake_webhooks, "ROWS_AT_ONCE", 2)


@pytest.mark.usefixtures("_small_portions")
async def test_a_portion_of_webhooks_is_compared_at_a_time(store: Store) -> None:
    for webhook_id in ("wh_a", "wh_b"):
        await store.webhooks.add(Registration(webhook(id=webhook_id), NOON))
    await publish_all(store)
    versions = dict.fromkeys(("wh_a", "wh_b", "wh_crm"), 7)
    assert await store.outbox.reconcile_next("", versions.get, {}) == ["wh_a", "wh_b"]
    assert sorted(await due_ids(store)) == ["wh_a", "wh_b"]
    assert await store.outbox.reconcile_next("wh_b", versions.get, {}) == ["wh_crm"]
    assert sorted(await due_ids(store)) == ["wh_a", "wh_b", "wh_crm"]
    assert await store.outbox.reconcile_next("wh_crm", versions.get, {}) == []


@pytest.mark.usefixtures("_small_portions")
async def test_a_comparison_of_all_takes_several_portions(store: Store) -> None:
    for number in range(5):
        await store.webhooks.add(Registration(webhook(id=f"wh_{number}"), NOON))
    await publish_all(store)
    assert await store.outbox.reconcile({"wh_2": 1, "wh_ghost": 1, "a": 1}, {}) == ["a", "wh_ghost"]
    assert len(await due_ids(store)) == 6


async def test_a_deleted_webhook_still_on_the_topic_is_due_again(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: None)
    [due] = await store.outbox.list_due(10)
    await publish_all(store)
    assert await store.outbox.reconcile({}, {}) == []
    assert await store.outbox.list_due(10) == []
    await store.outbox.reconcile({"wh_crm": due.version}, {})
    assert await store.outbox.list_due(10) == [due]


async def test_a_change_ends_the_wait_for_changes(store: Store) -> None:
    waiting = asyncio.create_task(store.outbox.wait_for_changes())
    await describe(store, "changed")
    await asyncio.wait_for(waiting, 10)


async def test_an_outage_ends_a_wait_for_changes(away: Store) -> None:
    with suppress(Unavailable):
        await asyncio.wait_for(away.outbox.wait_for_changes(), 10)


async def test_a_database_that_is_away_says_so(away: Store) -> None:
    due = DueChange("wh_crm", 1, webhook())
    for work in (
        away.outbox.list_due(10),
        away.outbox.reconcile({}, {}),
        away.outbox.mark_published([(due, NOON)]),
        away.propagation.is_published("wh_crm"),
        away.webhooks.list(),
        away.webhooks.add(Registration(webhook(), NOON)),
        away.webhooks.change("wh_crm", lambda r: r),
    ):
        with pytest.raises(Unavailable):
            await work


async def test_a_live_webhook_with_a_tombstone_gets_a_newer_version(store: Store) -> None:
    [due] = await store.outbox.list_due(10)
    await publish_all(store)
    tombstone = due.version + 1000
    await store.outbox.reconcile({}, {"wh_crm": tombstone})
    [again] = await store.outbox.list_due(10)
    assert again.version > tombstone
    assert again.webhook is not None
    assert again.webhook.version == again.version


async def test_an_overtaken_webhook_is_due_in_a_newer_version(store: Store) -> None:
    [due] = await store.outbox.list_due(10)
    await publish_all(store)
    await store.outbox.mark_dirty({"wh_crm": due.version, "wh_ghost": 1})
    assert [one.version for one in await store.outbox.list_due(10)] == [due.version]
    await store.outbox.mark_dirty({"wh_crm": due.version + 1000})
    [again] = await store.outbox.list_due(10)
    assert again.version > due.version + 1000
