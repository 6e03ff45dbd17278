"""Deliveries are found by any id of their event and by their failures, with counts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOON, attempt, dead_letter, delivery, webhook
from contract.stores import SqlStore
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import State, Trigger
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook import Registration
from streams.features.deliveries.search import DeliverySearchService
from streams.features.deliveries.search_rules import FacetCount, IdKind
from streams.features.deliveries.search_storage import SqlDeliverySearch
from streams.features.webhooks.stats_storage import SqlWebhookStats


def body(**data: str) -> bytes:
    named = ", ".join(f'"{name}": "{value}"' for name, value in data.items())
    return f'{{"data": {{{named}}}}}'.encode()


LONG = "l" * 900
SUBJECTS = {
    "evt_1": {"sessionId": "s1", "learnerId": "ada", "packageId": "p1", "dispatchId": "d1"},
    "evt_2": {"sessionId": "s2", "learnerId": LONG, "packageId": "p1"},
    "evt_3": {"sessionId": "s3", "learnerId": LONG + "2", "packageId": "p2"},
}


async def with_subjects(store: SqlStore) -> DeliverySearchService:
    entries = [
        RecordedValue(
            delivery(event_id=event_id, first_seen_at=NOON + timedelta(seconds=number), body=body(**data)), NOON
        )
        for number, (event_id, data) in enumerate(SUBJECTS.items())
    ]
    entries.append(RecordedValue(delivery(event_id="evt_1", account_id="other", body=body(sessionId="s9")), NOON))
    await store.recorder.record(merge_records(entries))
    return DeliverySearchService(store.delivery_log, SqlDeliverySearch(store.database))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"session_id": "s2"}, ["evt_2"]),
        ({"learner_id": "ada"}, ["evt_1"]),
        ({"learner_id": LONG}, ["evt_2"]),
        ({"learner_id": LONG[:300]}, []),
        ({"package_id": "p1"}, ["evt_2", "evt_1"]),
        ({"dispatch_id": "d1"}, ["evt_1"]),
        ({"package_id": "p1", "session_id": "s1"}, ["evt_1"]),
        ({"session_id": "s9"}, []),
    ],
)
async def test_a_delivery_is_found_by_ids_of_its_event(
    database: SqlStore, wanted: dict[str, Any], found: list[str]
) -> None:
    service = await with_subjects(database)
    result = await service.search(DeliveryFilter("acme", **wanted))
    assert [row.event_id for row in result.page.rows] == found
    assert result.count == len(found)


async def test_an_id_tells_what_it_names_in_its_account(database: SqlStore) -> None:
    service = await with_subjects(database)
    kinds = {"evt_1": IdKind.EVENT, "s1": IdKind.SESSION, "ada": IdKind.LEARNER, LONG: IdKind.LEARNER}
    kinds |= {"p2": IdKind.PACKAGE, "d1": IdKind.DISPATCH, delivery(event_id="evt_1").id: IdKind.DELIVERY}
    for text, kind in kinds.items():
        assert await service.kind_of("acme", text) is kind
    for unknown in ("s9", "", "nul\0", "\ud800", delivery(event_id="evt_1", account_id="other").id):
        assert await service.kind_of("acme", unknown) is None


async def test_a_delivery_is_found_by_its_failed_attempts(database: SqlStore) -> None:
    failures = {
        "evt_1": (OutcomeKind.SERVER_ERROR, 503),
        "evt_2": (OutcomeKind.TIMEOUT, None),
        "evt_3": (OutcomeKind.DELIVERED, 200),
    }
    entries = [
        RecordedValue(attempt(event_id=event_id, outcome=outcome, status=status), NOON)
        for event_id, (outcome, status) in failures.items()
    ]
    await database.recorder.record(merge_records(entries))

    async def listed(**wanted: Any) -> list[str]:
        page = await database.delivery_log.list(DeliveryFilter(**wanted))
        return [row.event_id for row in page.rows]

    for limits in ({}, {"account_id": "acme"}, {"webhook_id": webhook().id}, {"since": NOON - timedelta(days=1)}):
        assert await listed(outcome=OutcomeKind.TIMEOUT, **limits) == ["evt_2"]
        assert await listed(status_class=5, **limits) == ["evt_1"]
        assert await listed(status_class=4, **limits) == []
    assert await listed(outcome=OutcomeKind.TIMEOUT, account_id="other") == []


async def test_a_delivery_with_several_failures_is_listed_once(database: SqlStore) -> None:
    later = NOON + timedelta(minutes=1)
    # The event was published again: its second record has another time.
    made = [
        attempt(number=1, outcome=OutcomeKind.SERVER_ERROR, status=503, first_seen_at=NOON),
        attempt(number=2, outcome=OutcomeKind.SERVER_ERROR, status=500, first_seen_at=later),
        attempt(number=3, outcome=OutcomeKind.TIMEOUT, status=None, first_seen_at=later + timedelta(minutes=1)),
    ]
    await database.recorder.record(merge_records([RecordedValue(one, NOON) for one in made]))
    service = DeliverySearchService(database.delivery_log, SqlDeliverySearch(database.database))
    for wanted in (DeliveryFilter("acme", status_class=5), DeliveryFilter("acme", outcome=OutcomeKind.SERVER_ERROR)):
        result = await service.search(wanted)
        assert (len(result.page.rows), result.count) == (1, 1)
        assert (await service.facets(wanted)).webhook_ids == {"wh_crm": 1}


async def test_facets_count_what_a_filter_leaves(database: SqlStore) -> None:
    await database.webhooks.add(Registration(replace(webhook(), id="wh_lrs"), NOON))
    entries = [
        RecordedValue(delivery(event_id=f"evt_{number}", webhook_id="wh_lrs" if number == 1 else "wh_crm"), NOON)
        for number in range(3)
    ]
    entries.append(RecordedValue(dead_letter(delivery=delivery(event_id="evt_dead")), NOON))
    await database.recorder.record(merge_records(entries))
    search = SqlDeliverySearch(database.database)
    service = DeliverySearchService(database.delivery_log, search)
    facets = await service.facets(DeliveryFilter("acme", state=State.DEAD))
    assert facets.states == {"waiting": 3, "dead": 1}
    assert {name: count for name, count in facets.webhook_ids.items() if count} == {"wh_crm": 1}
    [one] = await search.facets(DeliveryFilter("acme", webhook_id="wh_lrs"), 1)
    assert one == FacetCount(State.WAITING, "session.completed", "wh_lrs", 1)
    assert await search.count(DeliveryFilter("acme"), 2) == 2


async def test_the_last_attempt_is_that_of_the_newest_generation(database: SqlStore) -> None:
    made = [attempt(generation=2, number=1, status=200), attempt(generation=1, number=3, status=503)]
    await database.recorder.record(merge_records([RecordedValue(one, NOON) for one in made]))
    service = DeliverySearchService(database.delivery_log, SqlDeliverySearch(database.database))
    result = await service.search(DeliveryFilter("acme"))
    [last] = result.last_attempts.values()
    assert last.status == 200


async def test_failed_attempts_of_a_webhook_are_listed_newest_first(database: SqlStore) -> None:
    made = [
        attempt(
            event_id=f"evt_{minute}",
            outcome=outcome,
            trigger=trigger,
            started_at=NOON + timedelta(minutes=minute),
            ended_at=NOON + timedelta(minutes=minute, seconds=1),
        )
        for minute, outcome, trigger in (
            (1, OutcomeKind.TIMEOUT, Trigger.EVENT),
            (2, OutcomeKind.DELIVERED, Trigger.EVENT),
            (3, OutcomeKind.REFUSED, Trigger.EVENT),
            (4, OutcomeKind.REFUSED, Trigger.TEST),
        )
    ]
    await database.recorder.record(merge_records([RecordedValue(one, NOON) for one in made]))
    stats = SqlWebhookStats(database.database)
    failures = await stats.failures(webhook().id, 5)
    assert [one.started_at for one in failures] == [NOON + timedelta(minutes=3), NOON + timedelta(minutes=1)]
    assert len(await stats.failures(webhook().id, 1)) == 1
    hours = await stats.account_hours("acme", NOON - timedelta(hours=1))
    assert {hour.outcome: hour.attempts for hour in hours} == {"timeout": 1, "delivered": 1, "refused": 1}
    assert await stats.account_hours("other", NOON - timedelta(hours=1)) == []
