"""A batch is recorded once and as a whole, and failures in a row pause the webhook."""

from dataclasses import replace

import pytest

from builders import NOON, attempt, delivery, event, paused
from contract.stores import Store, failed, history, publish_all
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import RowRefused, Unavailable
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import PauseReason, Status, Webhook


async def only_delivery_state(store: Store) -> DeliveryState:
    (state,) = (await store.delivery_log.list(DeliveryFilter())).rows
    return state


async def only_webhook(store: Store) -> Webhook:
    registration = await store.webhooks.find("wh_crm")
    assert registration
    return registration.webhook


async def with_options(store: Store, **values: object) -> None:
    options = parse_options(values)
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, options=options)))


# -- what is recorded ------------------------------------------------------------------------------------------


async def test_a_batch_that_is_recorded_twice_changes_nothing(store: Store) -> None:
    batch = merge_records([RecordedValue(delivery(), NOON), RecordedValue(attempt(), NOON)])
    await store.recorder.record(batch)
    once = await store.delivery_log.find(delivery().id)
    await store.recorder.record(batch)
    assert await store.delivery_log.find(delivery().id) == once
    assert once is not None
    assert (once.delivery_state.state, once.body, len(once.attempts)) == (State.DELIVERED, delivery().body, 1)


async def test_the_order_in_which_facts_arrive_does_not_matter(store: Store) -> None:
    for entry in reversed(history("evt_1")):
        await store.recorder.record(merge_records([entry]))
    backwards = await only_delivery_state(store)
    for entry in history("evt_1"):
        await store.recorder.record(merge_records([entry]))
    assert await only_delivery_state(store) == backwards
    assert (backwards.state, backwards.generation) == (State.DELIVERED, 2)


async def test_an_answer_of_any_bytes_is_stored(store: Store) -> None:
    wild = attempt(response_body=bytes(range(256)))
    await store.recorder.record(merge_records([RecordedValue(wild, NOON)]))
    seen = await store.delivery_log.find(wild.delivery_id)
    assert seen is not None
    assert seen.attempts[0].response_body == bytes(range(256))


async def test_a_batch_with_a_refused_row_records_nothing(store: Store) -> None:
    batch = merge_records(
        [RecordedValue(delivery(), NOON), RecordedValue(attempt(event_id="evt_odd", message=None), NOON)]
    )
    with pytest.raises(RowRefused):
        await store.recorder.record(batch)
    assert (await store.delivery_log.list(DeliveryFilter())).rows == []


async def test_a_database_that_is_away_records_nothing_and_says_so(away: Store) -> None:
    with pytest.raises(Unavailable):
        await away.recorder.record(merge_records([RecordedValue(attempt(), NOON)]))


# -- failures in a row -----------------------------------------------------------------------------------------


async def test_five_failures_pause_once_and_make_the_webhook_due(store: Store) -> None:
    await publish_all(store)
    entries = [failed(number) for number in range(1, 8)]
    await store.recorder.record(merge_records(entries[:4]))
    assert await store.outbox.list_due(10) == []
    for entry in entries[4:]:
        await store.recorder.record(merge_records([entry]))
    [due] = await store.outbox.list_due(10)
    assert due.webhook
    assert due.webhook.pause
    assert (due.webhook.status, due.webhook.pause.reason) == (Status.PAUSED, PauseReason.FAILURES)


async def test_attempts_that_are_recorded_again_are_not_counted_again(store: Store) -> None:
    for _ in range(2):
        await store.recorder.record(merge_records([failed(number) for number in range(1, 5)]))
    assert (await only_webhook(store)).status is Status.ACTIVE


async def test_a_success_restarts_the_count(store: Store) -> None:
    await store.recorder.record(merge_records([failed(number) for number in range(1, 5)]))
    await store.recorder.record(merge_records([failed(5, outcome=OutcomeKind.DELIVERED)]))
    await store.recorder.record(merge_records([failed(number) for number in range(6, 10)]))
    assert (await only_webhook(store)).status is Status.ACTIVE


async def test_an_endpoint_that_is_gone_pauses_at_once(store: Store) -> None:
    await store.recorder.record(merge_records([failed(1, outcome=OutcomeKind.GONE)]))
    gone = await only_webhook(store)
    assert gone.pause
    assert (gone.status, gone.pause.reason) == (Status.PAUSED, PauseReason.GONE)


async def test_an_endpoint_that_is_gone_may_delete_its_webhook(store: Store) -> None:
    await with_options(store, onGone="delete")
    await store.recorder.record(merge_records([failed(1, outcome=OutcomeKind.GONE)]))
    assert await store.webhooks.find("wh_crm") is None
    # `publish` writes its tombstone.
    assert [change.webhook for change in await store.outbox.list_due(10)] == [None]


async def test_a_patient_webhook_is_paused_later(store: Store) -> None:
    await with_options(store, pauseAfter={"failures": 7, "minutes": 1})
    await store.recorder.record(merge_records([failed(number) for number in range(1, 9)]))
    assert (await only_webhook(store)).status is Status.ACTIVE
    store.clock.advance(70)
    await store.recorder.record(merge_records([failed(70)]))
    assert (await only_webhook(store)).status is Status.PAUSED


async def test_failures_of_an_older_health_epoch_do_not_count(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, health_epoch=2)))
    await store.recorder.record(merge_records([failed(number) for number in range(1, 9)]))
    assert (await only_webhook(store)).status is Status.ACTIVE


async def test_failures_that_are_read_late_do_not_count(store: Store) -> None:
    store.clock.advance(15 * 60)
    await store.recorder.record(merge_records([failed(number) for number in range(1, 9)]))
    assert (await only_webhook(store)).status is Status.ACTIVE
    await store.recorder.record(merge_records([failed(number) for number in range(14 * 60, 14 * 60 + 5)]))
    assert (await only_webhook(store)).status is Status.PAUSED


async def test_attempts_of_before_a_restore_pause_no_webhook(store: Store) -> None:
    """A person enabled the webhook after the dump: the attempts have epochs that the database does not know."""
    await store.recorder.record(merge_records([failed(number) for number in range(1, 5)]))
    await store.outbox.restart_health()
    assert [due.webhook_id for due in await store.outbox.list_due(10)] == ["wh_crm"]
    for epoch in (1, 2, 3):
        await store.recorder.record(
            merge_records([failed(10 * epoch + number, health_epoch=epoch) for number in range(9)])
        )
    restored = await only_webhook(store)
    assert restored.status is Status.ACTIVE
    await publish_all(store)
    await store.recorder.record(
        merge_records([failed(number, health_epoch=restored.health_epoch) for number in range(100, 105)])
    )
    assert (await only_webhook(store)).status is Status.PAUSED


async def test_an_outage_of_our_own_network_pauses_no_webhook(store: Store) -> None:
    refused = merge_records([failed(number, outcome=OutcomeKind.REFUSED) for number in range(1, 9)])
    await store.recorder.record(replace(refused, own_network_is_down=True))
    assert (await only_webhook(store)).status is Status.ACTIVE
    broken = merge_records([failed(number) for number in range(11, 16)])
    await store.recorder.record(replace(broken, own_network_is_down=True))
    assert (await only_webhook(store)).status is Status.PAUSED


async def test_a_new_health_epoch_restarts_the_count(store: Store) -> None:
    await store.recorder.record(merge_records([failed(number) for number in range(1, 5)]))
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, health_epoch=2)))
    await store.recorder.record(merge_records([failed(number, health_epoch=2) for number in range(5, 9)]))
    assert (await only_webhook(store)).status is Status.ACTIVE
    await store.recorder.record(merge_records([failed(9, health_epoch=2)]))
    assert (await only_webhook(store)).status is Status.PAUSED


async def test_attempts_of_a_deleted_webhook_pause_nothing(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: None)
    await publish_all(store)
    await store.recorder.record(merge_records([failed(number) for number in range(1, 9)]))
    assert len((await store.delivery_log.list(DeliveryFilter())).rows) == 8
    assert await store.outbox.list_due(10) == []


async def test_a_manual_pause_stays_manual(store: Store) -> None:
    await store.webhooks.change("wh_crm", lambda r: replace(r, webhook=paused(), paused_at=NOON))
    await store.recorder.record(merge_records([failed(number) for number in range(1, 9)]))
    pause = (await only_webhook(store)).pause
    assert pause
    assert pause.reason is PauseReason.MANUAL


async def test_an_event_keeps_its_first_body(store: Store) -> None:
    assert not await store.recorder.record(merge_records([RecordedValue(delivery(), NOON)]))
    again = merge_records(
        [RecordedValue(delivery(webhook_id="wh_2"), NOON), RecordedValue(delivery(event_id="evt_other"), NOON)]
    )
    assert not await store.recorder.record(again)
    conflicting = merge_records(
        [RecordedValue(delivery(body=b"another"), NOON), RecordedValue(delivery(event_id="evt_third"), NOON)]
    )
    assert await store.recorder.record(conflicting) == {("acme", event().id)}
    seen = await store.delivery_log.find(delivery().id)
    assert seen is not None
    assert seen.body == delivery().body
