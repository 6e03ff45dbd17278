"""Events are handled in turns, and a commit never passes one that is not done."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from fakes import EventConsumer, FakeClock, FakeKafka, FakeRecordConsumer, FakeTelemetry, cancel_others, quiet, until
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Outgoing, Partition, Record
from streams.stages.consuming.event_reader import LARGE_FETCH_RECORDS
from streams.tasks import run_until_first_ends
from streams.topics import SESSION_EVENTS

GROUP = "fan-out"
FIRST, SECOND = Partition(SESSION_EVENTS, 0), Partition(SESSION_EVENTS, 1)
# The fake's keys of these partitions.
KEYS = {FIRST: b"d", SECOND: b"a"}
ROOM = 6
# Three events of an account fill a batch.
COST = 400


class Member:
    """A process of `fan-out` whose handler waits for `finish`."""

    def __init__(self, kafka: FakeKafka, room: int = ROOM, at_once: int = 3, revoke_seconds: float = 0.001) -> None:
        self.telemetry = FakeTelemetry()
        self.kafka = FakeRecordConsumer(kafka, GROUP, [SESSION_EVENTS], at_once)
        self.consumer = EventConsumer(
            self.kafka, self.telemetry, commit_interval_seconds=0, revoke_seconds=revoke_seconds
        )
        self.consumer.reader._read_ahead._max_events = room
        self.done: list[Record] = []
        self.in_hand: Sequence[Record] = ()
        self._result: asyncio.Future[None] | None = None
        self.running = asyncio.create_task(self.consumer.run(self._handle, account_of, lambda _: COST))

    async def _handle(self, records: Sequence[Record]) -> None:
        self.in_hand, self._result = records, asyncio.get_running_loop().create_future()
        await self._result
        self.done += records

    async def finish(self) -> None:
        """End the batch in hand, if there is one."""
        if self._result and not self._result.done():
            self._result.set_result(None)
            self.in_hand = ()
        await quiet()

    def fail(self, error: Exception) -> None:
        assert self._result
        self._result.set_exception(error)

    async def leave(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def account_of(value: bytes) -> str:
    return value.decode()


def append(kafka: FakeKafka, partition: Partition, accounts: str) -> None:
    for account in accounts:
        assert kafka.append(Outgoing(SESSION_EVENTS, KEYS[partition], account.encode())).partition == partition


def committed(kafka: FakeKafka, partition: Partition = FIRST) -> int:
    return kafka.groups[GROUP].get(partition, Commit(0, "")).offset


@pytest.fixture
def fake_kafka() -> FakeKafka:
    return FakeKafka(FakeClock())


@pytest_asyncio.fixture
async def member(fake_kafka: FakeKafka) -> AsyncIterator[Member]:
    member = Member(fake_kafka)
    await quiet()
    yield member
    await cancel_others()


async def test_a_batch_waits_for_events_that_share_its_requests(fake_kafka: FakeKafka, member: Member) -> None:
    member.consumer.reader._gather_seconds = 60
    append(fake_kafka, FIRST, "x")
    await quiet()
    await member.finish()
    append(fake_kafka, FIRST, "y")
    await quiet()
    assert member.in_hand == ()
    assert committed(fake_kafka) == 1


async def test_an_event_that_is_done_too_soon_is_not_committed(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "x")
    await quiet()
    append(fake_kafka, FIRST, "aaaa")
    append(fake_kafka, FIRST, "b")
    await quiet()
    await member.finish()
    assert [account_of(record.value or b"") for record in member.in_hand] == ["a", "b", "a"]
    await member.finish()
    # Behind the fourth event, which is not done, the sixth one is.
    assert (len(member.done), committed(fake_kafka)) == (4, 3)
    await member.finish()
    assert committed(fake_kafka) == 6


async def test_what_was_handled_is_done_when_it_comes_back(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "x")
    await quiet()
    append(fake_kafka, FIRST, "aaaab")
    await quiet()
    await member.finish()
    await member.finish()
    await member.kafka.revoke([FIRST])
    # Another member handled those before it, and gave the partition back.
    fake_kafka.groups[GROUP][FIRST] = Commit(5, "")
    member.kafka.assign([FIRST])
    await until(lambda: committed(fake_kafka) == 6)
    assert [record.offset for record in member.done].count(5) == 1


async def test_a_large_fetch_that_fills_the_member_is_handled_at_once(fake_kafka: FakeKafka) -> None:
    member = Member(fake_kafka, room=LARGE_FETCH_RECORDS, at_once=LARGE_FETCH_RECORDS)
    append(fake_kafka, FIRST, "a" * LARGE_FETCH_RECORDS)
    await quiet()
    assert member.kafka.paused
    assert member.in_hand
    await member.leave()


async def test_a_full_window_pauses_until_half_is_done(fake_kafka: FakeKafka, member: Member) -> None:
    member.consumer.reader._read_ahead._max_events = 10
    append(fake_kafka, FIRST, "a" * 20)
    append(fake_kafka, SECOND, "a" * 20)
    await quiet()
    assert member.kafka.paused == {FIRST, SECOND}
    read = member.kafka.read
    assert read < 20
    await member.finish()
    assert (member.kafka.read, member.kafka.paused) == (read, {FIRST, SECOND})
    while len(member.done) < 40:
        await member.finish()
    assert not member.kafka.paused
    assert member.kafka.read == 40
    assert (committed(fake_kafka, FIRST), committed(fake_kafka, SECOND)) == (20, 20)


async def test_a_partition_that_comes_to_a_full_member_waits(fake_kafka: FakeKafka, member: Member) -> None:
    await member.kafka.revoke([SECOND])
    append(fake_kafka, SECOND, "b")
    append(fake_kafka, FIRST, "a" * 20)
    await quiet()
    member.kafka.assign([SECOND])
    await quiet()
    assert member.kafka.paused == {FIRST, SECOND}
    while len(member.done) < 21:
        await member.finish()


async def test_a_revocation_commits_the_batch_in_hand(fake_kafka: FakeKafka) -> None:
    member = Member(fake_kafka, revoke_seconds=5)
    await quiet()
    append(fake_kafka, FIRST, "aaaa")
    await quiet()
    revoking = asyncio.create_task(member.kafka.revoke([FIRST]))
    await quiet()
    assert not revoking.done()
    in_hand = len(member.in_hand)
    await member.finish()
    await revoking
    assert committed(fake_kafka) == in_hand
    # What is queued is left to the next owner.
    assert not member.in_hand
    await member.leave()


async def test_a_batch_that_outlasts_a_revocation_is_logged(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "a")
    await quiet()
    await member.kafka.revoke([FIRST])
    assert member.telemetry.logged_count("revoke_timed_out") == 1
    await member.finish()
    assert committed(fake_kafka) == 0


async def test_a_record_that_comes_after_a_revocation_is_dropped(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "a")
    await quiet()
    await member.finish()
    await member.kafka.revoke([FIRST])
    member.kafka.hand_over(fake_kafka.records(FIRST))
    await quiet()
    assert not member.in_hand


async def test_lost_partitions_are_not_committed(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "aaa")
    await quiet()
    await member.kafka.revoke([FIRST], is_lost=True)
    await member.finish()
    assert not fake_kafka.groups[GROUP]
    assert not member.telemetry.logged_count("revoke_timed_out")


async def test_a_refused_commit_is_repeated(fake_kafka: FakeKafka, member: Member) -> None:
    member.kafka.away = True
    append(fake_kafka, FIRST, "a")
    await quiet()
    await member.finish()
    assert member.telemetry.counts["commit_errors_total"]
    assert committed(fake_kafka) == 0
    member.kafka.away = False
    await until(lambda: committed(fake_kafka) == 1)


async def test_a_failed_batch_is_raised_and_not_committed(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "a")
    await quiet()
    await member.finish()
    append(fake_kafka, FIRST, "a")
    await quiet()
    member.fail(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        await member.running
    assert committed(fake_kafka) == 1


async def test_a_drained_member_takes_nothing_more(fake_kafka: FakeKafka, member: Member) -> None:
    append(fake_kafka, FIRST, "a")
    await quiet()
    with pytest.raises(TimeoutError):
        await member.consumer.drain(0.001)
    await member.finish()
    append(fake_kafka, FIRST, "a")
    await member.consumer.drain(1)
    await quiet()
    assert not member.in_hand
    await member.leave()
    assert committed(fake_kafka) == 1


async def test_what_a_batch_leaves_comes_again_after_the_others(fake_kafka: FakeKafka) -> None:
    consumer = EventConsumer(FakeRecordConsumer(fake_kafka, GROUP, [SESSION_EVENTS]))
    batches: list[str] = []

    async def handle_two() -> None:
        while True:
            async with consumer.reader.next_batch(lambda _: 1) as batch:
                batches.append("".join(account_of(record.value or b"") for record in batch.records))
                batch.handled_count = 2

    append(fake_kafka, FIRST, "aaab")
    consumer.codec.find_account = account_of
    running = asyncio.create_task(run_until_first_ends(consumer.reader.run, handle_two))
    await until(lambda: committed(fake_kafka) == 4)
    assert batches == ["aaab", "ab"]
    running.cancel()


async def test_what_a_batch_leaves_of_a_revoked_partition_goes(fake_kafka: FakeKafka) -> None:
    client = FakeRecordConsumer(fake_kafka, GROUP, [SESSION_EVENTS])
    consumer, in_hand, go_on = EventConsumer(client), asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def leave_the_rest() -> None:
        while True:
            async with consumer.reader.next_batch(lambda _: 1) as batch:
                in_hand.set()
                await go_on.wait()
                handled.append(account_of(batch.records[0].value or b""))
                batch.handled_count = 1

    append(fake_kafka, FIRST, "ab")
    consumer.codec.find_account = account_of
    running = asyncio.create_task(run_until_first_ends(consumer.reader.run, leave_the_rest))
    await in_hand.wait()
    revoking = asyncio.create_task(client.revoke([FIRST]))
    await quiet()
    go_on.set()
    await revoking
    await quiet()
    assert handled == ["a"]
    running.cancel()


# -- any order of all of it ------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What happens next, to which member, and to which partition."""

    action: str
    member: int
    partition: Partition
    accounts: str


ACTIONS = (
    "append",
    "append",
    "append",
    "finish",
    "finish",
    "finish",
    "join",
    "leave",
    "move",
    "lose",
    "kill",
    "refuse",
)
STEPS = st.builds(
    Step,
    st.sampled_from(ACTIONS),
    st.integers(0, 2),
    st.sampled_from([FIRST, SECOND]),
    st.text("abc", min_size=1, max_size=8),
)


class Group:
    """The members of a group, which may all be killed at once."""

    def __init__(self) -> None:
        self.kafka = FakeKafka(FakeClock())
        self.members = [Member(self.kafka)]
        self.dead: list[Member] = []

    async def play(self, step: Step) -> None:
        member = self.members[step.member % len(self.members)]
        if step.action == "append":
            append(self.kafka, step.partition, step.accounts)
        elif step.action == "finish":
            await member.finish()
        elif step.action == "join" and len(self.members) < 3:
            self.members.append(Member(self.kafka))
        elif step.action == "leave" and len(self.members) > 1:
            self.members.remove(member)
            self.dead.append(member)
            await member.leave()
        elif step.action in ("move", "lose") and step.partition in member.kafka._positions:
            await member.kafka.revoke([step.partition], is_lost=step.action == "lose")
            member.kafka.assign([step.partition])
        elif step.action == "refuse":
            member.kafka.away = not member.kafka.away
        elif step.action == "kill":
            await cancel_others()
            self.dead += self.members
            self.members = [Member(self.kafka)]
        await quiet()
        # The fake does not hold back a rebalance until the one before has ended.
        await until(lambda: sum(len(member.kafka._positions) for member in self.members) == len(KEYS))
        await quiet()
        self.check()

    def check(self) -> None:
        """What is committed is handled."""
        for partition, commit in self.kafka.groups[GROUP].items():
            assert set(range(commit.offset)) <= self.handled(partition)

    def handled(self, partition: Partition) -> set[int]:
        done = [record for member in (*self.members, *self.dead) for record in member.done]
        return {record.offset for record in done if record.partition == partition}

    def is_done(self) -> bool:
        return all(committed(self.kafka, one) == len(self.kafka.records(one)) for one in (FIRST, SECOND))

    async def end(self) -> None:
        """Everything that was appended is handled and committed in the end."""
        async with asyncio.timeout(10):
            while not self.is_done():
                for member in self.members:
                    member.kafka.away = False
                    await member.finish()
                    assert not member.running.done()
        self.check()
        await cancel_others()


async def play(steps: Sequence[Step]) -> None:
    group = Group()
    await quiet()
    for step in steps:
        await group.play(step)
    await group.end()


@given(st.lists(STEPS, max_size=40))
def test_every_event_is_handled_whatever_happens(steps: list[Step]) -> None:
    asyncio.run(play(steps))
