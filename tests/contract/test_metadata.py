"""Pairs of an event's metadata: found by the hash of one, and gone with their event."""

import json
from datetime import timedelta

from builders import NOON, attempt, delivery
from contract.learners import learners
from contract.stores import SqlStore, publish_all
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.deliveries import event_metadata
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.features.deliveries.search import DeliverySearchService
from streams.features.deliveries.search_storage import SqlDeliverySearch
from streams.ports.storage import Prunable


def with_metadata(number: int, metadata: dict[str, str], account_id: str = "acme", learner: str = "ada") -> Delivery:
    body = json.dumps({"data": {"sessionId": f"s{number}", "learnerId": learner, "metadata": metadata}}).encode()
    seen = NOON + timedelta(seconds=number)
    return delivery(event_id=f"evt_{number}", account_id=account_id, first_seen_at=seen, body=body)


async def record(store: SqlStore, *deliveries: Delivery) -> None:
    await store.recorder.record(merge_records([RecordedValue(one, NOON) for one in deliveries]))


async def found(store: SqlStore, name: str, text: str, **others: str) -> list[str]:
    service = DeliverySearchService(store.delivery_log, SqlDeliverySearch(store.database))
    wanted = DeliveryFilter("acme", metadata=(name, text), **others)  # type: ignore[arg-type]
    result = await service.search(wanted)
    assert result.count == len(result.page.rows)
    assert sum((await service.facets(wanted)).states.values()) == result.count
    return [row.event_id for row in result.page.rows]


async def test_a_delivery_is_found_by_a_pair_of_its_metadata(database: SqlStore) -> None:
    await record(
        database,
        with_metadata(1, {"department": "sales", "employee": "1"}),
        with_metadata(2, {"department": "sales", "employee": "2"}),
        with_metadata(3, {"department": "hr"}),
        with_metadata(4, {"department": "sales"}, account_id="other"),
    )
    assert await found(database, "department", "sales") == ["evt_2", "evt_1"]
    assert await found(database, "department", "sales", session_id="s1") == ["evt_1"]
    assert await found(database, "employee", "2") == ["evt_2"]
    for name, text in (("department", "sale"), ("departmen", "tsales"), ("sales", "department")):
        assert await found(database, name, text) == []


async def test_pages_of_a_pair_have_every_delivery_once(database: SqlStore) -> None:
    await record(database, *(with_metadata(number, {"department": "sales"}) for number in range(5)))
    wanted, listed = DeliveryFilter("acme", metadata=("department", "sales"), limit=2), list[DeliveryState]()
    page = await database.delivery_log.list(wanted)
    listed += page.rows
    while page.next_cursor is not None:
        page = await database.delivery_log.list(
            DeliveryFilter("acme", metadata=wanted.metadata, limit=2, after=page.next_cursor)
        )
        listed += page.rows
    assert [row.event_id for row in listed] == [f"evt_{number}" for number in (4, 3, 2, 1, 0)]


async def test_retention_deletes_pairs_with_their_event(database: SqlStore) -> None:
    done = with_metadata(1, {"department": "sales"})
    await record(database, done, with_metadata(2, {"department": "sales"}))
    delivered = attempt(event_id="evt_1", step=2, next_step=NextStep.DONE)
    await database.recorder.record(merge_records([RecordedValue(delivered, NOON)]))
    await SqlPruning(database.database).prune(Prunable.DELIVERIES, NOON + timedelta(days=1), 10)
    assert await found(database, "department", "sales") == ["evt_2"]
    assert await database.count(event_metadata) == 1


async def test_an_erasure_deletes_pairs_of_the_learner(database: SqlStore) -> None:
    await record(
        database,
        with_metadata(1, {"email": "ada@example.com"}),
        with_metadata(2, {"email": "grace@example.com"}, learner="grace"),
    )
    service = learners(database)
    await service.finish(await service.start("acme", "ada", actor="key:key_1"))
    assert await found(database, "email", "ada@example.com") == []
    assert await database.count(event_metadata) == 1


async def test_an_event_with_other_metadata_is_a_conflict(database: SqlStore) -> None:
    first, other = with_metadata(1, {"department": "sales"}), with_metadata(1, {"department": "hr"})
    await record(database, first)
    assert await database.recorder.record(merge_records([RecordedValue(first, NOON)])) == set()
    assert await database.recorder.record(merge_records([RecordedValue(other, NOON)])) == {("acme", "evt_1")}
    assert await found(database, "department", "hr") == []


async def test_a_record_says_what_its_body_does_not(database: SqlStore) -> None:
    # The body may belong to a delivery: subjects and the hash are the event's.
    event = with_metadata(1, {"department": "sales"})
    await record(database, event._replace(body=b"{}"))
    assert await found(database, "department", "sales") == ["evt_1"]
    assert await database.recorder.record(merge_records([RecordedValue(event._replace(body=b"[]"), NOON)])) == set()


async def test_a_released_delivery_keeps_the_hash_of_its_event(database: SqlStore) -> None:
    event = with_metadata(1, {"department": "sales"})
    await publish_all(database)
    await record(
        database,
        event._replace(body=b"{}").to_held(HoldReason.BUSY, None, is_attempted=False),
    )
    [held] = await database.held.oldest(event.webhook_id, 1)
    assert held.delivery.event_hash == event.event_hash
