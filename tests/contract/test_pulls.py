"""Readers lease deliveries, acknowledge them or give them back, and none is given to two readers at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
import standardwebhooks
from sqlalchemy import update

from builders import NOON, SECRET, delivery
from contract.learners import learners
from contract.stores import SqlStore, publish_all
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.sql.tables.deliveries import deliveries, events
from streams.core.deliveries.delivery import Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Conflict, NotFound, Unavailable
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import TEMPORARY_LIFE, Pause, PauseReason, Registration, Status
from streams.features.pulls.service import PulledItem, PullService
from streams.features.pulls.storage import KEPT_ATTEMPTS, SqlPulls
from streams.features.pulls.waits import SPREAD

LEASE_SECONDS = 60


def waiting(number: int, **changes: object) -> Delivery:
    """Event `number`, which waits for a reader."""
    first = delivery(event_id=f"evt_{number}", first_seen_at=NOON + timedelta(seconds=number), **changes)
    return first.to_held(HoldReason.PULL, None, is_attempted=False)


@dataclass
class Reading:
    """A pull webhook on a database, and what its readers do."""

    store: SqlStore
    service: PullService
    telemetry: FakeTelemetry

    async def hold(self, *numbers: int) -> None:
        values = [RecordedValue(waiting(number), NOON + timedelta(milliseconds=number)) for number in numbers]
        await self.store.recorder.record(merge_records(values))
        self.store.clock.advance(1)

    async def pull(self, limit: int = 100, lease_seconds: int = LEASE_SECONDS) -> Sequence[PulledItem]:
        return (await self.service.pull("wh_crm", limit, lease_seconds, "acme"))[0]

    async def events(self, limit: int = 100) -> list[str]:
        return [item.headers["webhook-id"] for item in await self.pull(limit)]

    async def ack(self, *numbers: int) -> Sequence[str]:
        return await self.service.acknowledge("wh_crm", [waiting(number).id for number in numbers], "acme")

    async def nack(self, *numbers: int, wait_seconds: int = 0) -> Sequence[str]:
        ids = [waiting(number).id for number in numbers]
        return await self.service.give_back("wh_crm", ids, wait_seconds, "acme")

    async def state(self, number: int) -> DeliveryState:
        details = await self.store.delivery_log.find(waiting(number).id)
        assert details
        return details.delivery_state

    async def outcomes(self, number: int) -> list[tuple[int, str]]:
        page = await self.store.delivery_log.attempts(waiting(number).id, None, 10)
        return [(made.number, made.outcome) for made in reversed(page.rows)]

    async def change(self, **changes: object) -> None:
        def changed(known: Registration) -> Registration:
            return replace(known, webhook=replace(known.webhook, **changes))  # type: ignore[arg-type]

        await self.store.webhooks.change("wh_crm", changed)
        await publish_all(self.store)


@pytest.fixture
def connections() -> int:
    return 4


@pytest_asyncio.fixture
async def reading(database: SqlStore) -> AsyncIterator[Reading]:
    telemetry, encryption = FakeTelemetry(), FakeEncryption()
    pulls = SqlPulls(database.database, encryption, database.clock)
    service = PullService(
        pulls, database.webhooks, database.recorder, encryption, database.clock, telemetry, "X-Our-Signature"
    )
    reading = Reading(database, service, telemetry)
    await reading.change(url="")
    yield reading
    service.end_waits()


async def test_an_item_is_what_a_request_would_bring(reading: Reading) -> None:
    await reading.hold(1)
    [item] = await reading.pull()
    assert item.id == waiting(1).id
    assert item.body == waiting(1).body.decode()
    assert item.headers["webhook-attempt"] == "1"
    now = reading.store.clock.now()
    assert item.headers["webhook-timestamp"] == str(int(now.timestamp()))
    assert item.headers["webhook-signature"] == standardwebhooks.Webhook(SECRET).sign("evt_1", now, item.body)


async def test_the_oldest_come_first_and_to_one_reader_alone(reading: Reading) -> None:
    await reading.hold(3, 1, 2)
    assert await reading.events(2) == ["evt_1", "evt_2"]
    assert await reading.events(2) == ["evt_3"]
    assert await reading.events() == []


async def test_what_is_acknowledged_is_delivered_once(reading: Reading) -> None:
    await reading.hold(1, 2)
    await reading.pull()
    assert await reading.ack(1) == [waiting(1).id]
    assert (await reading.state(1)).state is State.DELIVERED
    assert await reading.outcomes(1) == [(1, OutcomeKind.DELIVERED)]
    # The reader did not get the response, and asks again.
    assert await reading.ack(1) == [waiting(1).id]
    assert await reading.outcomes(1) == [(1, OutcomeKind.DELIVERED)]
    reading.store.clock.advance(LEASE_SECONDS)
    assert await reading.events() == ["evt_2"]


async def test_what_nobody_pulled_cannot_be_acknowledged(reading: Reading) -> None:
    await reading.hold(1)
    assert await reading.ack(1, 2) == []
    assert (await reading.state(1)).state is State.HELD
    assert await reading.events() == ["evt_1"]


async def test_a_lease_that_ends_gives_the_item_to_the_next(reading: Reading) -> None:
    await reading.hold(1)
    await reading.pull()
    reading.store.clock.advance(LEASE_SECONDS - 1)
    assert await reading.events() == []
    reading.store.clock.advance(1)
    [again] = await reading.pull()
    assert (again.id, again.headers["webhook-attempt"]) == (waiting(1).id, "2")
    assert await reading.outcomes(1) == [(1, OutcomeKind.LEASE_ENDED)]
    assert (await reading.state(1)).attempts == 2


async def test_an_acknowledgement_after_the_lease_counts(reading: Reading) -> None:
    await reading.hold(1)
    await reading.pull()
    reading.store.clock.advance(2 * LEASE_SECONDS)
    assert await reading.ack(1) == [waiting(1).id]
    assert await reading.events() == []


async def test_what_is_given_back_comes_again_after_its_wait(reading: Reading) -> None:
    await reading.hold(1)
    await reading.pull()
    assert await reading.nack(1, 2, wait_seconds=30) == [waiting(1).id]
    assert await reading.nack(2) == []
    assert await reading.events() == []
    reading.store.clock.advance(30)
    assert await reading.events() == ["evt_1"]
    assert await reading.outcomes(1) == [(1, OutcomeKind.NOT_ACKNOWLEDGED)]


async def test_what_readers_do_not_take_pauses_nothing(reading: Reading) -> None:
    await reading.hold(1)
    for _ in range(10):
        await reading.pull()
        await reading.nack(1)
    known = await reading.store.webhooks.find("wh_crm")
    assert known
    assert known.webhook.status is Status.ACTIVE


async def test_readers_at_once_share_the_items(reading: Reading) -> None:
    await reading.hold(*range(40))
    pulled = await asyncio.gather(*(reading.events(10) for _ in range(6)))
    assert sorted(event_id for events in pulled for event_id in events) == sorted(f"evt_{n}" for n in range(40))


async def test_a_paused_webhook_gives_nothing(reading: Reading) -> None:
    await reading.hold(1)
    await reading.change(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL))
    assert await reading.events() == []
    waiting_reader = asyncio.create_task(reading.service.wait("wh_crm", 20.0, 1, 0.0))
    await asyncio.sleep(0)
    await reading.change(status=Status.ACTIVE, pause=None)
    assert await waiting_reader
    assert await reading.events() == ["evt_1"]


async def test_a_reader_that_waits_is_woken(reading: Reading) -> None:
    readers = [asyncio.create_task(reading.service.wait("wh_crm", 20.0, 1, 0.0)) for _ in range(3)]
    await reading.hold(1, 2)
    await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
    assert await reading.events() == ["evt_1", "evt_2"]
    await reading.hold(3)
    assert await asyncio.gather(*readers) == [True, True, True]


async def test_a_reader_waits_no_longer_than_it_asked(reading: Reading) -> None:
    assert not await reading.service.wait("wh_crm", 0.05, 1, 0.0)
    assert not await reading.service.wait("wh_crm", 0.05, 1, 10.0)


async def test_a_process_that_stops_sends_its_readers_away(reading: Reading) -> None:
    readers = [asyncio.create_task(reading.service.wait("wh_crm", 20.0, 1, pause)) for pause in (0.0, 0.0, 15.0)]
    await asyncio.sleep(0)
    reading.service.end_waits()
    assert await asyncio.gather(*readers) == [False, False, False]


async def test_a_rate_is_kept_across_readers(reading: Reading) -> None:
    await reading.change(options=parse_options({"ratePerSecond": 2, "rateBurst": 3}))
    await reading.hold(*range(10))
    assert len(await reading.pull(2)) == 2
    assert len(await reading.pull()) == 1
    items, seconds_to_next = await reading.service.pull("wh_crm", 100, LEASE_SECONDS, "acme")
    assert (list(items), seconds_to_next) == ([], 0.5)
    reading.store.clock.advance(1)
    assert len(await reading.pull()) == 2


async def test_many_large_items_come_in_parts(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    await reading.hold(1, 2, 3)
    size = len(waiting(1).body)
    monkeypatch.setattr("streams.features.pulls.storage.MAX_PULL_BYTES", 2 * size)
    assert await reading.events() == ["evt_1", "evt_2"]
    monkeypatch.setattr("streams.features.pulls.storage.MAX_PULL_BYTES", 1)
    assert await reading.events() == ["evt_3"]


async def test_a_new_rate_owes_nothing_of_a_slower_one(reading: Reading) -> None:
    await reading.change(options=parse_options({"ratePerSecond": 0.1, "rateBurst": 20}))
    await reading.hold(*range(30))
    assert len(await reading.pull()) == 20
    await reading.change(options=parse_options({"ratePerSecond": 10, "rateBurst": 1}))
    assert await reading.pull() == []
    reading.store.clock.advance(0.1)
    assert len(await reading.pull()) == 1


async def test_a_row_that_cannot_be_read_stops_no_other(reading: Reading) -> None:
    await reading.hold(1, 2)
    async with reading.store.database.transaction() as connection:
        wrong = update(deliveries).where(deliveries.c.id == waiting(1).id)
        await connection.execute(wrong.values(trigger="moon"))
    assert await reading.events(1) == ["evt_2"]
    assert [fields["delivery_id"] for fields in reading.telemetry.fields_of("pulled_row_invalid")] == [waiting(1).id]


async def test_a_body_that_cannot_be_sent_stops_no_other(reading: Reading) -> None:
    await reading.change(options=parse_options({"fields": ["sessionId"]}))
    await reading.hold(1, 2)
    async with reading.store.database.transaction() as connection:
        await connection.execute(update(events).where(events.c.event_id == "evt_1").values(body=b"{"))
    assert await reading.events() == ["evt_2"]
    assert await reading.outcomes(1) == [(1, OutcomeKind.UNSENDABLE)]


async def test_what_is_past_its_retention_is_given_to_nobody(reading: Reading) -> None:
    await reading.change(options=parse_options({"retentionDays": 1}))
    await reading.hold(1)
    await reading.pull()
    await reading.nack(1)
    reading.store.clock.advance(25 * 60 * 60)
    assert await reading.events() == []
    now = reading.store.clock.now()
    [late] = await reading.store.held.unacknowledged("wh_crm", now - timedelta(days=1), now, 10)
    assert late.delivery.event_id == "evt_1"


async def test_what_was_held_in_a_pause_has_its_time_after_it(reading: Reading) -> None:
    await reading.change(options=parse_options({"retentionDays": 1}))
    await reading.hold(1)
    await reading.change(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL))
    reading.store.clock.advance(48 * 60 * 60)
    await reading.change(status=Status.ACTIVE, pause=None)
    assert await reading.events() == ["evt_1"]


async def test_a_webhook_with_a_url_sends_what_nobody_has(reading: Reading) -> None:
    await reading.hold(1, 2)
    await reading.pull(1)
    await reading.change(url="https://crm.example.com/hooks")
    now = reading.store.clock.now()
    assert await reading.store.held.to_requests("wh_crm", now, 10) == 1
    assert [one.delivery.event_id for one in await reading.store.held.oldest("wh_crm", 10)] == ["evt_2"]
    # Its reader may still acknowledge the other one.
    assert await reading.ack(1) == [waiting(1).id]
    assert await reading.store.held.to_requests("wh_crm", now + timedelta(hours=1), 10) == 0


async def test_a_second_return_changes_nothing(reading: Reading) -> None:
    await reading.hold(1)
    await reading.pull()
    assert await reading.nack(1, wait_seconds=5) == [waiting(1).id]
    assert await reading.nack(1) == []
    assert await reading.ack(1) == []
    reading.store.clock.advance(5)
    await reading.pull()
    assert await reading.outcomes(1) == [(1, OutcomeKind.NOT_ACKNOWLEDGED)]
    assert reading.telemetry.counts["leases_total"] == 1


async def test_readers_that_wait_learn_of_an_outage(reading: Reading) -> None:
    class Away:
        async def available(self, limits: object) -> object:
            raise Unavailable("the database is away")

    reading.service._pulls = Away()  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="the database is away"):
        await reading.service.wait("wh_crm", 20.0, 1, 0.0)


async def test_the_events_of_an_erased_learner_leave_no_more(reading: Reading) -> None:
    await reading.hold(1, 2)
    await reading.pull(1)
    service = learners(reading.store)
    erasure = await service.start("acme", "learner-42", actor="key:key_1")
    assert await reading.events() == []
    await service.finish(erasure)
    assert await reading.ack(1) == []
    assert (await reading.state(1)).state is State.DISCARDED


async def test_a_webhook_that_gets_requests_is_not_pulled(reading: Reading) -> None:
    await reading.change(url="https://crm.example.com/hooks")
    with pytest.raises(Conflict, match="gets requests: change its delivery to pull first"):
        await reading.pull()
    with pytest.raises(NotFound, match="there is no webhook wh_crm"):
        await reading.service.pull("wh_crm", 1, 1, "globex")
    with pytest.raises(NotFound, match="there is no webhook wh_other"):
        await reading.service.acknowledge("wh_other", ["dlv_1"], None)


async def test_a_pull_keeps_a_temporary_webhook(reading: Reading) -> None:
    webhooks, clock = reading.store.webhooks, reading.store.clock

    async def expires_at() -> datetime | None:
        registration = await webhooks.find("wh_crm")
        return registration.expires_at if registration else None

    await webhooks.change("wh_crm", lambda known: replace(known, expires_at=clock.now() + TEMPORARY_LIFE))
    first = await expires_at()
    clock.advance(60)
    await reading.pull()
    assert await expires_at() == first
    clock.advance(30 * 60)
    await reading.pull()
    assert await expires_at() == clock.now() + TEMPORARY_LIFE
    clock.advance(TEMPORARY_LIFE.total_seconds() - 1)
    assert await webhooks.expired(10) == []
    clock.advance(1)
    assert await webhooks.expired(10, excluded=["wh_crm"]) == []
    assert await webhooks.expired(10) == ["wh_crm"]
    # A reader pulls in this moment.
    await reading.pull()
    await webhooks.delete_expired("wh_crm")
    assert await expires_at() is not None
    clock.advance(TEMPORARY_LIFE.total_seconds())
    await webhooks.delete_expired("wh_crm")
    assert await webhooks.find("wh_crm") is None


async def test_what_a_temporary_webhook_leaves_is_discarded(reading: Reading) -> None:
    await reading.hold(1, 2)
    await reading.pull(1)
    clock, store = reading.store.clock, reading.store
    await store.webhooks.change("wh_crm", lambda known: replace(known, expires_at=clock.now()))
    await store.webhooks.delete_expired("wh_crm")
    await publish_all(store)
    [ended] = await store.held.pulled_webhooks()
    assert (ended.is_pull, ended.has_ended) == (False, True)
    now = clock.now()
    assert [one.delivery.event_id for one in await store.held.unacknowledged("wh_crm", now, now, 10)] == ["evt_2"]
    clock.advance(LEASE_SECONDS)
    now = clock.now()
    left = await store.held.unacknowledged("wh_crm", now, now, 10)
    assert {one.delivery.event_id for one in left} == {"evt_1", "evt_2"}


async def test_of_attempts_without_end_the_last_are_kept(reading: Reading) -> None:
    await reading.hold(1)
    for _ in range(KEPT_ATTEMPTS + 3):
        assert await reading.events(1) == ["evt_1"]
        await reading.nack(1)
    page = await reading.store.delivery_log.attempts(waiting(1).id, None, 100)
    assert [made.number for made in page.rows] == list(range(KEPT_ATTEMPTS + 3, 3, -1))
    assert (await reading.state(1)).attempts == KEPT_ATTEMPTS + 3


async def test_waits_that_begin_together_end_one_by_one(reading: Reading) -> None:
    loop = asyncio.get_running_loop()
    began_at, ended_at = loop.time(), list[float]()
    waits = [asyncio.create_task(reading.service.wait("wh_crm", 0.5, 1, 0.0)) for _ in range(20)]
    for wait in waits:
        wait.add_done_callback(lambda _: ended_at.append(loop.time() - began_at))
    assert not any(await asyncio.gather(*waits))
    assert max(ended_at) - min(ended_at) > 0.5 * SPREAD / 4
