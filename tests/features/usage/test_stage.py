"""`meter` counts each launch once, from the positions of its database."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from builders import NOON, event
from fakes import (
    FakeClock,
    FakeKafka,
    FakeRecordConsumer,
    FakeTelemetry,
    cancel_others,
    no_wait,
    postponed_work,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.accounts.usage import Launch, LaunchBatch, NewLaunches, UnknownAccount
from streams.core.deliveries.backfill import OffsetRange
from streams.core.errors import RowRefused, Unavailable
from streams.core.events.event import Event
from streams.core.records.offset_tracker import Commit
from streams.features.usage.account_check import AccountCheck
from streams.features.usage.stage import Meter
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition, Record
from streams.stages.consuming.batch_consumer import Batching
from streams.stages.consuming.write_buffer import MAX_BUFFERED_RECORDS
from streams.topics import SESSION_EVENTS

CODEC = AvroCodec()
AT_ONCE = Batching(min_interval_seconds=0, retry_seconds=0)
DATA = {"sessionId": "s", "packageId": "p", "learnerId": "l"}


class FakeUsageMeter:
    """A `UsageMeter`: positions and launches in memory. It refuses launches of the account `refused`."""

    def __init__(self) -> None:
        self.next: dict[int, int] = {}
        self.incarnation = ""
        self.launches: dict[tuple[str, str], Launch] = {}
        self.late: dict[tuple[str, str], Launch] = {}
        self.away = False

    async def positions(self, incarnation: str, partitions: Sequence[int]) -> Mapping[int, int]:
        if self.away:
            raise Unavailable("no database")
        if incarnation != self.incarnation:
            self.incarnation, self.next = incarnation, {}
        return {one: self.next.setdefault(one, 0) for one in partitions}

    async def count(self, incarnation: str, moves: Sequence[OffsetRange], batch: LaunchBatch) -> NewLaunches | None:
        if self.away:
            raise Unavailable("no database")
        if incarnation != self.incarnation or any(self.next[one.partition] != one.start for one in moves):
            return None
        if any(one.account_id == "refused" for one in batch.launches):
            raise RowRefused("the row is refused")
        self.next |= {one.partition: one.end for one in moves}
        sizes = []
        for known, found in ((self.launches, batch.launches), (self.late, batch.late_launches)):
            before = len(known)
            known |= {(one.account_id, one.event_id): one for one in found}
            sizes.append(len(known) - before)
        return NewLaunches(*sizes)


class FakeUnknownAccounts:
    """`UnknownAccounts`: some accounts exist, all others are noted."""

    def __init__(self) -> None:
        self.existing_ids = {"acme", "globex"}
        self.noted: list[UnknownAccount] = []
        self.asked: list[list[str]] = []
        self.away = False

    async def find_existing(self, account_ids: Sequence[str]) -> set[str]:
        if self.away:
            raise Unavailable("no database")
        self.asked.append(sorted(account_ids))
        return self.existing_ids & set(account_ids)

    async def add(self, found: Sequence[UnknownAccount]) -> None:
        self.noted += found


class MeterFixture:
    """The `meter` stage on a topic of one partition."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock, partitions=1)
        self.usage = FakeUsageMeter()
        self.accounts = FakeUnknownAccounts()
        self.telemetry = FakeTelemetry()
        self.topic = "first"

    def start(self, batching: Batching = AT_ONCE, **limits: int) -> None:
        self.consumer = FakeRecordConsumer(self.kafka, "meter", [SESSION_EVENTS])

        async def incarnation() -> str:
            return self.topic

        outages = Outages(self.telemetry, sleep=no_wait)
        self.work = postponed_work(self.telemetry, self.clock)
        now = lambda: self.clock.now().timestamp()  # noqa: E731
        self.check = AccountCheck(self.accounts, self.telemetry, outages, self.work, now, **limits)
        self.stage = Meter(
            self.consumer,
            CODEC,
            self.usage,
            self.check,
            incarnation,
            self.clock,
            self.telemetry,
            outages,
            batching=batching,
        )
        self.running = asyncio.create_task(self.stage.run())

    def add(self, *events: Event | bytes) -> None:
        for one in events:
            value = one if isinstance(one, bytes) else CODEC.encode(one)
            self.kafka.append(Outgoing(SESSION_EVENTS, b"k", value))

    @property
    def counted(self) -> list[str]:
        return [event_id for _, event_id in self.usage.launches]


def launched(number: int, account_id: str = "acme", at: datetime = NOON) -> Event:
    return event(id=f"evt_{number}", type="session.launched", account_id=account_id, data=DATA, occurred_at=at)


@pytest_asyncio.fixture
async def fixture() -> AsyncIterator[MeterFixture]:
    yield MeterFixture()
    await cancel_others()


async def test_launches_are_counted_and_nothing_else(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(launched(1), event(), b"junk", launched(2), launched(1))
    await quiet()
    assert fixture.counted == ["evt_1", "evt_2"]
    assert fixture.usage.next == {0: 5}
    assert fixture.consumer.committed == {Partition(SESSION_EVENTS, 0): Commit(5, "")}
    assert fixture.telemetry.counts["usage_launches_total"] == 2
    assert fixture.telemetry.counts["usage_duplicates_total"] == 1


async def test_a_refused_commit_needs_no_further_record(fixture: MeterFixture) -> None:
    fixture.start()
    await quiet()
    fixture.consumer.away = True
    fixture.add(launched(1))
    await until(lambda: fixture.telemetry.counts["commit_errors_total"] > 1)
    fixture.consumer.away = False
    await until(lambda: fixture.telemetry.logged_count("commit_succeeded") == 1)
    assert fixture.consumer.committed == {Partition(SESSION_EVENTS, 0): Commit(1, "")}
    assert fixture.counted == ["evt_1"]


async def test_a_launch_of_a_closed_month_has_its_arrival(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(*[launched(1, at=datetime.fromisoformat("2026-02-01T00:00:00+00:00"))] * 2)
    await quiet()
    assert fixture.counted == []
    [late] = fixture.usage.late.values()
    assert (late.event_id, late.at) == ("evt_1", NOON)
    assert fixture.telemetry.counts["usage_late_launches_total"] == 1
    assert fixture.telemetry.counts["usage_duplicates_total"] == 1


async def test_what_fan_out_calls_invalid_is_not_counted(fixture: MeterFixture) -> None:
    """A clock may be a day ahead of the record, whatever the time is when it is read."""
    fixture.add(*(launched(number, at=NOON + timedelta(hours=hours)) for number, hours in ((1, 24), (2, 25))))
    fixture.add(replace(launched(3), data={**DATA, "packageId": "a b"}))
    fixture.clock.advance(7 * 86400)
    fixture.start()
    await quiet()
    assert fixture.counted == ["evt_1"]


@pytest.mark.parametrize("position", [0, 2, 4])
async def test_the_database_says_where_to_read_on(fixture: MeterFixture, position: int) -> None:
    fixture.add(*(launched(number) for number in range(4)))
    # Kafka's own offset is another one: the database was restored, or the last commit did not arrive.
    fixture.kafka.groups["meter"][Partition(SESSION_EVENTS, 0)] = Commit(3, "")
    fixture.usage.incarnation, fixture.usage.next = "first", {0: position}
    fixture.start()
    await quiet()
    assert fixture.counted == [f"evt_{number}" for number in range(position, 4)]
    assert fixture.usage.next == {0: 4}


async def test_a_recreated_topic_is_read_from_its_start(fixture: MeterFixture) -> None:
    fixture.usage.incarnation, fixture.usage.next = "older", {0: 500}
    fixture.add(launched(1))
    fixture.start()
    await quiet()
    assert fixture.counted == ["evt_1"]


async def test_a_topic_that_is_cut_while_it_is_read_goes_on(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(*(launched(number) for number in range(5)))
    await quiet()
    # It was made again, or lost its end: the consumer begins at its start, with lower offsets.
    place = Partition(SESSION_EVENTS, 0)
    fixture.kafka.recreate(place)
    values = [CODEC.encode(launched(number)) for number in (3, 7)]
    fixture.consumer.hand_over([Record(place, offset, b"k", value, NOON) for offset, value in enumerate(values)])
    await quiet()
    assert fixture.counted == [*(f"evt_{number}" for number in range(5)), "evt_7"]
    assert fixture.usage.next == {0: 2}
    assert not fixture.running.done()


async def test_a_partition_opened_while_the_queue_is_full_waits(fixture: MeterFixture) -> None:
    fixture.start()
    await quiet()
    fixture.usage.away = True
    place = Partition(SESSION_EVENTS, 0)
    value = CODEC.encode(launched(1))
    offsets = range(MAX_BUFFERED_RECORDS + Batching().max_records)
    fixture.consumer.hand_over([Record(place, offset, b"k", value, NOON) for offset in offsets])
    await quiet()
    assert place in fixture.consumer.paused
    fixture.usage.away = False
    await quiet()
    assert place not in fixture.consumer.paused
    assert fixture.counted == ["evt_1"]


async def test_a_meter_that_fell_behind_reads_the_new_position(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(launched(1))
    await quiet()
    # Another owner of the partition went on meanwhile.
    fixture.usage.next = {0: 3}
    fixture.add(launched(2), launched(3), launched(4))
    await quiet()
    assert fixture.counted == ["evt_1", "evt_4"]
    assert fixture.usage.next == {0: 4}


async def test_a_refused_launch_does_not_stop_others(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(launched(1), launched(2, "refused"), launched(3))
    await quiet()
    assert fixture.counted == ["evt_1", "evt_3"]
    assert fixture.usage.next == {0: 3}
    assert [name for name, _ in fixture.telemetry.logged].count("launch_not_counted") == 1


async def test_an_outage_of_the_database_loses_nothing(fixture: MeterFixture) -> None:
    fixture.usage.away = True
    fixture.start()
    fixture.add(launched(1), launched(2))
    await quiet()
    assert fixture.counted == []
    fixture.usage.away = False
    await quiet()
    assert fixture.counted == ["evt_1", "evt_2"]


async def test_a_killed_meter_counts_each_launch_once(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(launched(1))
    await quiet()
    await cancel_others()
    fixture.add(launched(2))
    fixture.start()
    await quiet()
    assert fixture.counted == ["evt_1", "evt_2"]


async def test_a_drain_counts_what_arrived(fixture: MeterFixture) -> None:
    fixture.start()
    await quiet()
    fixture.usage.away = True
    fixture.add(launched(1))
    await quiet()
    fixture.add(launched(2))
    await quiet()
    draining = asyncio.create_task(fixture.stage.drain(5))
    await quiet()
    fixture.add(launched(3))
    fixture.usage.away = False
    await draining
    assert fixture.counted == ["evt_1", "evt_2"]


async def test_a_drain_does_not_wait_for_unopened_partitions(fixture: MeterFixture) -> None:
    fixture.usage.away = True
    fixture.start()
    await quiet()
    await fixture.stage.drain(5)


async def test_a_drain_has_a_time_limit(fixture: MeterFixture) -> None:
    fixture.start()
    await quiet()
    fixture.usage.away = True
    fixture.add(launched(1))
    await quiet()
    with pytest.raises(TimeoutError):
        await fixture.stage.drain(0.01)


async def test_a_partition_revoked_in_a_batch_stays_closed(fixture: MeterFixture) -> None:
    place = Partition(SESSION_EVENTS, 0)
    fixture.start(replace(AT_ONCE, revoke_timeout_seconds=0.01))
    await quiet()
    fixture.usage.away = True
    fixture.add(launched(1))
    await quiet()
    await fixture.consumer.revoke([place])
    assert fixture.telemetry.logged_count("revoke_timed_out") == 1
    # The next owner counted it.
    fixture.usage.next = {0: 1}
    fixture.usage.away = False
    await quiet()
    assert fixture.counted == []
    assert fixture.consumer.committed == {place: Commit(0, "")}


# -- accounts that do not exist --------------------------------------------------------------------------------


def of_account(account_id: str, number: int = 1) -> Event:
    return event(id=f"evt_{number}", account_id=account_id)


def lines_of(fixture: MeterFixture) -> list[dict[str, object]]:
    return [fields for name, fields in fixture.telemetry.logged if name == "events_of_unknown_accounts"]


async def test_events_of_unknown_accounts_are_noted(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(of_account("acme"), of_account("acc_lost"), launched(2, "acc_lost"), b"junk", of_account("acc_other"))
    await quiet()
    assert fixture.accounts.noted == [
        UnknownAccount("acc_lost", 2, NOON, NOON),
        UnknownAccount("acc_other", 1, NOON, NOON),
    ]
    assert fixture.telemetry.counts["events_of_unknown_accounts_total"] == 3
    [fields] = lines_of(fixture)
    assert (fields["events"], fields["accounts"]) == (3, "acc_lost, acc_other")
    assert fixture.usage.next == {0: 5}


async def test_a_known_account_is_asked_for_once(fixture: MeterFixture) -> None:
    fixture.start()
    for number in range(3):
        fixture.add(of_account("acme", number), of_account("acc_lost", number))
        await quiet()
    # An unknown account may be created meanwhile.
    assert fixture.accounts.asked == [["acc_lost", "acme"], ["acc_lost"], ["acc_lost"]]
    fixture.accounts.existing_ids.add("acc_lost")
    for number in range(2):
        fixture.add(of_account("acc_lost", number))
        await quiet()
    assert len(fixture.accounts.asked) == 4
    assert fixture.telemetry.counts["events_of_unknown_accounts_total"] == 3


async def test_the_log_has_a_line_a_minute(fixture: MeterFixture) -> None:
    fixture.start()
    for number in range(5):
        fixture.add(of_account(f"acc_{number}"))
        await quiet()
    fixture.clock.advance(61)
    fixture.add(of_account("acc_last"))
    await quiet()
    first, second = lines_of(fixture)
    assert (first["events"], first["accounts"]) == (1, "acc_0")
    assert (second["events"], second["accounts"]) == (5, "acc_last")


async def test_the_known_accounts_and_the_noted_ones_are_bounded(fixture: MeterFixture) -> None:
    fixture.accounts.existing_ids = {f"acc_{number}" for number in range(5)}
    fixture.start(max_existing_ids=2, max_unknown_per_batch=3)
    fixture.add(*(of_account(f"acc_{number}") for number in range(10)))
    await quiet()
    assert len(fixture.check._existing_ids) <= 2
    assert len(fixture.accounts.noted) == 3
    assert fixture.telemetry.counts["events_of_unknown_accounts_total"] == 5


async def test_a_note_waits_for_the_database(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.accounts.away = True
    fixture.add(of_account("acc_lost"))
    await until(lambda: fixture.telemetry.logged_count("database_unreachable") == 1)
    assert fixture.accounts.noted == []
    fixture.accounts.away = False
    await until(lambda: len(fixture.accounts.noted) == 1)


async def test_what_is_read_again_is_noted_once(fixture: MeterFixture) -> None:
    fixture.start()
    fixture.add(of_account("acc_lost"))
    await quiet()
    fixture.running.cancel()
    await asyncio.gather(fixture.running, return_exceptions=True)
    fixture.consumer.committed.clear()
    fixture.start()
    await quiet()
    assert len(fixture.accounts.noted) == 1
