"""Events are handled in any order, done in the order of their partition, and survive a rebalance."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.ports.kafka import Partition, Record
from streams.stages.consuming.read_ahead import PendingEvent, ReadAhead

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = (0, 1)
FIRST = Partition("session-events", 0)
ACCOUNTS = ("a", "b", "c")


def record(partition: int, offset: int, value: bytes = b"", at: datetime = START) -> Record:
    return Record(Partition("session-events", partition), offset, None, value, at + timedelta(seconds=offset))


def add(ahead: ReadAhead, account: str, partition: int, offset: int, at: datetime = START) -> None:
    ahead.add(record(partition, offset, at=at), account)


def take(ahead: ReadAhead, owners: Sequence[str] = ACCOUNTS) -> list[PendingEvent]:
    return ahead.take(lambda account: 1000 if account in owners else 1)


def events(batch: Sequence[PendingEvent]) -> list[tuple[int, int]]:
    return [(pending.record.partition.number, pending.record.offset) for pending in batch]


def rebalance(ahead: ReadAhead, starts: Mapping[Partition, int]) -> None:
    """Give partitions back, and get them again with these offsets."""
    ahead.forget(list(starts))
    ahead.start(starts)


def test_an_event_is_not_done_before_an_earlier_one() -> None:
    ahead = ReadAhead()
    for offset, account in enumerate("aab"):
        add(ahead, account, 0, offset)
    first, second, third = (take(ahead) for _ in range(3))
    assert [events(each) for each in (first, second, third)] == [[(0, 0)], [(0, 2)], [(0, 1)]]
    assert ahead.complete(second) == {}
    assert ahead.complete(first) == {FIRST: 1}
    assert ahead.complete(third) == {FIRST: 3}
    assert len(ahead) == 0


@pytest.mark.parametrize(("accounts", "limit"), [(1, 1000), (100, 1000), (99, 100), (800, 1000)])
def test_many_accounts_delay_another_by_one_batch(accounts: int, limit: int) -> None:
    ahead = ReadAhead()
    for offset in range(5_000):
        add(ahead, f"burst {offset % accounts}", 0, offset)
    add(ahead, "other", 1, 0)
    assert (1, 0) in events(ahead.take(lambda account: 1, limit))


def test_what_was_done_is_not_handled_when_it_is_read_again() -> None:
    ahead = ReadAhead()
    add(ahead, "a", 0, 0)
    add(ahead, "b", 0, 1)
    take(ahead)
    ahead.complete(take(ahead))
    rebalance(ahead, {FIRST: 0})
    add(ahead, "a", 0, 0)
    add(ahead, "b", 0, 1)
    again = take(ahead, [])
    assert events(again) == [(0, 0)]
    assert ahead.complete(again) == {FIRST: 2}


def test_a_topic_made_again_has_events_that_were_not_handled() -> None:
    ahead = ReadAhead()
    add(ahead, "a", 0, 0)
    add(ahead, "b", 0, 1)
    take(ahead)
    ahead.complete(take(ahead))
    rebalance(ahead, {FIRST: 0})
    add(ahead, "b", 0, 1, at=START + timedelta(hours=1))
    assert events(take(ahead, [])) == [(0, 1)]


def test_a_batch_in_hand_is_not_done_after_a_rebalance() -> None:
    ahead = ReadAhead()
    add(ahead, "a", 0, 0)
    in_hand = take(ahead)
    rebalance(ahead, {FIRST: 0})
    assert ahead.complete(in_hand) == {}
    add(ahead, "a", 0, 0)
    assert events(take(ahead)) == [(0, 0)]


def test_nothing_is_handed_out_after_a_stop() -> None:
    ahead = ReadAhead()
    add(ahead, "a", 0, 0)
    ahead.stop([FIRST])
    assert not ahead.has_queued
    assert take(ahead) == []


def test_a_partition_that_goes_takes_its_events_with_it() -> None:
    ahead = ReadAhead()
    add(ahead, "a", 0, 0)
    in_hand = take(ahead)
    add(ahead, "a", 0, 1)
    add(ahead, "a", 1, 0)
    ahead.forget([FIRST])
    assert ahead.complete(in_hand) == {}
    assert len(ahead) == 1
    assert events(take(ahead, [])) == [(1, 0)]


def test_it_is_full_by_events_or_by_bytes() -> None:
    by_events, by_bytes = ReadAhead(max_events=2), ReadAhead(max_bytes=10)
    for ahead, value in ((by_events, b""), (by_bytes, b"12345")):
        ahead.add(record(0, 0, value), "a")
        assert not ahead.is_full
        ahead.add(record(0, 1, value), "a")
        assert ahead.is_full
        ahead.complete(ahead.take(lambda _: 1))
        assert not ahead.is_full


class ReadAheadMachine(RuleBasedStateMachine):
    """A topic that is read, handled and committed, with rebalances that start at what is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = ReadAhead()
        self.accounts: dict[int, list[str]] = {number: [] for number in PARTITIONS}
        self.position = dict.fromkeys(PARTITIONS, 0)
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.handled: list[tuple[int, int]] = []
        self.in_hand: list[PendingEvent] = []

    @rule(partition=st.sampled_from(PARTITIONS), account=st.sampled_from(ACCOUNTS))
    def append(self, partition: int, account: str) -> None:
        self.accounts[partition].append(account)

    @rule(partition=st.sampled_from(PARTITIONS))
    def read(self, partition: int) -> None:
        offset = self.position[partition]
        if offset < len(self.accounts[partition]):
            add(self.ahead, self.accounts[partition][offset], partition, offset)
            self.position[partition] += 1

    @rule()
    def take_batch(self) -> None:
        if not self.in_hand:
            self.in_hand = take(self.ahead)

    @rule()
    def end_batch(self) -> None:
        self.handled += events(self.in_hand)
        for partition, next_offset in self.ahead.complete(self.in_hand).items():
            assert next_offset > self.committed[partition.number]
            self.committed[partition.number] = next_offset
        self.in_hand = []

    @rule()
    def rebalance(self) -> None:
        self.end_batch()
        self.position = dict(self.committed)
        rebalance(self.ahead, {Partition("session-events", number): start for number, start in self.position.items()})

    @invariant()
    def what_is_committed_was_handled(self) -> None:
        for partition, end in self.committed.items():
            assert {(partition, offset) for offset in range(end)} <= set(self.handled)

    @invariant()
    def nothing_is_handled_twice(self) -> None:
        assert len(self.handled) == len(set(self.handled))

    def teardown(self) -> None:
        """Everything that was appended is handled and committed in the end."""
        self.end_batch()
        for partition in PARTITIONS:
            while self.position[partition] < len(self.accounts[partition]):
                self.read(partition)
        self.end_batch()
        while self.ahead.has_queued:
            self.take_batch()
            self.end_batch()
        assert self.committed == {number: len(accounts) for number, accounts in self.accounts.items()}
        assert len(self.ahead) == 0


TestReadAhead = ReadAheadMachine.TestCase
TestReadAhead.settings = settings(stateful_step_count=40)
