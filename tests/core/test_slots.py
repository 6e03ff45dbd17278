"""Slots: caps and shares hold, endpoints take turns, every waiter gets a slot or is shed."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.core.deliveries.delivery import HoldReason
from streams.core.queues.endpoint_queue import (
    MAX_WAIT_SECONDS,
    MIN_OVERLOAD_SECONDS,
    SLOW_SECONDS,
    START_CAP,
    TEST_CAP,
    EndpointClass,
    Priority,
)
from streams.core.queues.slots import SLOW_SLOTS, Slots

TOTAL = 12
names = st.sampled_from(("a", "b", "c", "d"))


class SlotsMachine(RuleBasedStateMachine):
    """Enqueue, grant, release, shed and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[int] = Slots(TOTAL)
        self.now = 0.0
        self.asked: dict[int, tuple[str, Priority]] = {}
        self.ceilings: dict[str, int] = {}
        self.in_flight: dict[int, str] = {}
        self.granted: list[int] = []
        self.shed_waiters: list[int] = []

    @rule(name=names, priority=st.sampled_from((Priority.FIRST, Priority.RETRY)), ceiling=st.integers(1, 10))
    def enqueue(self, name: str, priority: Priority, ceiling: int) -> None:
        self._enqueue(name, priority, ceiling)

    @rule(name=names)
    def enqueue_a_test(self, name: str) -> None:
        self._enqueue(f"{name}/test", Priority.TEST, 32)

    def _enqueue(self, name: str, priority: Priority, ceiling: int) -> None:
        waiter = len(self.asked)
        self.asked[waiter] = name, priority
        self.ceilings[name] = ceiling
        self.slots.enqueue(name, waiter, priority, ceiling)

    @rule(name=names, priority=st.sampled_from((Priority.FIRST, Priority.RETRY)), ceiling=st.integers(1, 10))
    def try_acquire(self, name: str, priority: Priority, ceiling: int) -> None:
        waiting, waiter = self.slots.waiting_count(), len(self.asked)
        if self.slots.try_acquire(name, waiter, self.now, priority, ceiling):
            # Equal to enqueue and grant: no earlier waiter could have had this slot.
            assert self.slots.grant(self.now) == []
            assert self.slots.waiting_count() == waiting
            self.asked[waiter] = name, priority
            self.ceilings[name] = ceiling
            self.granted.append(waiter)
            self.in_flight[waiter] = name
            assert Counter(self.in_flight.values())[name] <= ceiling
        else:
            self._enqueue(name, priority, ceiling)

    @rule(seconds=st.floats(0.01, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def grant(self) -> None:
        before = Counter(self.in_flight.values())
        # `shed` marks endpoints that became slow as suspect.
        self.slots.shed(self.now, [])
        suspects = self.slots.in_use(EndpointClass.SUSPECT)
        for name, waiter in self.slots.grant(self.now):
            assert self.asked[waiter][0] == name
            self.granted.append(waiter)
            self.in_flight[waiter] = name
        for name, count in Counter(self.in_flight.values()).items():
            assert count <= max(self.ceilings[name], before[name])
        # A new suspect keeps its slots; suspects get no more beyond their quarter.
        assert self.slots.in_use(EndpointClass.SUSPECT) <= max(TOTAL // 4, suspects)
        assert self.slots.grant(self.now) == []

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), delivered=st.sampled_from((True, False, None)))
    def release(self, data: st.DataObject, delivered: bool | None) -> None:
        self._release(data.draw(st.sampled_from(sorted(self.in_flight))), delivered)

    @rule()
    def shed(self) -> None:
        self.shed_waiters += [waiter for waiter, _ in self.slots.shed(self.now)]

    @invariant()
    def the_total_is_never_exceeded(self) -> None:
        in_use = sum(self.slots.in_use(endpoint_class) for endpoint_class in EndpointClass)
        assert in_use + self.slots.free_count == TOTAL
        assert in_use + self.slots.slow_count == len(self.in_flight)

    @invariant()
    def a_lone_account_leaves_half_of_the_slow_slots(self) -> None:
        assert self.slots.slow_count <= SLOW_SLOTS * TOTAL // 2

    @invariant()
    def only_waiters_of_a_full_process_are_short_of_slots(self) -> None:
        short = set(self.slots.starved_waiters())
        assert short.isdisjoint(self.granted)
        assert short.isdisjoint(self.shed_waiters)
        assert not short or self.slots.free_count <= 1

    @invariant()
    def the_last_slot_is_for_tests(self) -> None:
        assert self.slots.free_count or any("/test" in name for name in self.in_flight.values())

    @invariant()
    def retries_hold_at_most_half_of_a_cap(self) -> None:
        for name in "abcd":
            again = [t for t, of in self.in_flight.items() if of == name and self.asked[t][1] is Priority.RETRY]
            assert len(again) <= max(START_CAP, 10) // 2

    @invariant()
    def a_waiter_is_granted_or_shed_once_and_in_order(self) -> None:
        assert not set(self.granted) & set(self.shed_waiters)
        assert len(set(self.shed_waiters)) == len(self.shed_waiters)
        for asked in set(self.asked.values()):
            mine = [waiter for waiter in self.granted if self.asked[waiter] == asked]
            assert mine == sorted(set(mine))

    def _release(self, waiter: int, delivered: bool | None) -> None:
        self.slots.release(self.in_flight.pop(waiter), waiter, self.now, delivered)

    def teardown(self) -> None:
        """In the end each waiter was granted a slot or shed."""
        self.grant()
        while self.in_flight:
            self._release(min(self.in_flight), False)
            self.grant()
        assert sorted(self.granted + self.shed_waiters) == sorted(self.asked)
        assert self.slots.free_count == TOTAL
        assert self.slots.slow_count == 0
        assert self.slots.waiting_count() == 0


TestSlots = SlotsMachine.TestCase


class SlotsFixture:
    """Slots with named endpoints, and a clock that tests set."""

    def __init__(self, total: int = 256) -> None:
        self.slots: Slots[str] = Slots(total)
        self.now = 0.0
        self.in_flight: dict[str, str] = {}
        self._count = 0

    def enqueue(self, name: str, count: int = 1, priority: Priority = Priority.FIRST, ceiling: int = 32) -> None:
        for _ in range(count):
            self._count += 1
            self.slots.enqueue(name, f"{name} {priority} {self._count}", priority, ceiling)

    def grant(self) -> list[str]:
        granted = self.slots.grant(self.now)
        self.in_flight.update({waiter: name for name, waiter in granted})
        return [name for name, _ in granted]

    def finish(self, name: str, count: int = 1, delivered: bool | None = True) -> None:
        for waiter in [waiter for waiter, of in self.in_flight.items() if of == name][:count]:
            self.slots.release(self.in_flight.pop(waiter), waiter, self.now, delivered)

    def respond_once(self, *names: str) -> None:
        """Let each endpoint respond once, at once."""
        for name in names:
            self.enqueue(name)
            self.grant()
            self.finish(name)

    def in_use(self, name: str) -> int:
        return sum(of == name for of in self.in_flight.values())


def test_a_slot_is_acquired_at_once_only_if_nobody_waits() -> None:
    slots = Slots[str](START_CAP + 2)
    taken = [slots.try_acquire("a", f"a{number}", 0.0) for number in range(START_CAP + 1)]
    assert taken == [True] * 5 + [False] * 4  # one slot is for tests; new endpoints get half of the rest
    slots.enqueue("b", "b")
    slots.release("a", "a0", 0.1, None)
    assert not slots.try_acquire("a", "late", 0.1)
    assert slots.grant(0.1) == [("b", "b")]


def test_a_hanging_endpoint_is_limited_to_a_quarter() -> None:
    slots = Slots[str](8)
    assert [slots.try_acquire("a", f"a{number}", 0.0) for number in range(2)] == [True, True]
    now = SLOW_SECONDS + 0.1
    assert [slots.try_acquire("a", f"late {number}", now) for number in range(3)] == [True, True, False]


def test_a_cap_starts_at_eight_and_grows_with_each_success() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a", 100, ceiling=20)
    fixture.grant()
    assert fixture.in_use("a") == START_CAP
    fixture.finish("a", 4)
    fixture.grant()
    assert fixture.in_use("a") == START_CAP + 4
    for _ in range(5):
        fixture.finish("a", 4)
        fixture.grant()
    assert fixture.in_use("a") == 20


def test_a_failure_halves_the_cap_down_to_one() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a", 100)
    fixture.grant()
    fixture.finish("a", 8, delivered=False)
    fixture.grant()
    assert fixture.in_use("a") == 1


def test_a_slot_without_an_attempt_does_not_change_the_cap() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a", 20)
    fixture.grant()
    fixture.finish("a", 8, delivered=None)
    fixture.grant()
    assert fixture.in_use("a") == START_CAP


def test_endpoints_take_turns() -> None:
    fixture = SlotsFixture(total=5)
    fixture.respond_once("busy", "quiet")
    fixture.enqueue("busy", 10)
    fixture.enqueue("quiet")
    assert fixture.grant() == ["busy", "quiet", "busy", "busy"]


@given(st.integers(1, 20), st.integers(1, 5))
def test_a_quiet_endpoint_waits_one_turn_of_each_other(burst: int, others: int) -> None:
    fixture = SlotsFixture(total=2)
    fixture.respond_once("quiet", *(f"busy {number}" for number in range(others)))
    for number in range(others):
        fixture.enqueue(f"busy {number}", burst)
    fixture.enqueue("quiet")
    order: list[str] = []
    while granted := fixture.grant():
        order += granted
        for name in granted:
            fixture.finish(name)
    assert order.index("quiet") <= others
    assert len(order) == burst * others + 1


def test_failing_endpoints_share_a_quarter_of_the_slots() -> None:
    fixture = SlotsFixture(total=40)
    for number in range(30):
        fixture.enqueue(f"broken {number}")
        fixture.grant()
        fixture.finish(f"broken {number}", delivered=False)
    for number in range(30):
        fixture.enqueue(f"broken {number}", 5)
    assert len(fixture.grant()) == 10
    fixture.respond_once("healthy")
    fixture.enqueue("healthy", 50)
    assert set(fixture.grant()) == {"healthy"}


def test_hanging_endpoints_are_suspect_before_their_timeout() -> None:
    fixture = SlotsFixture(total=40)
    for number in range(3):
        fixture.enqueue(f"hangs {number}", 8)
    # They are new: at most half of the slots.
    assert len(fixture.grant()) == 20
    fixture.now = SLOW_SECONDS + 0.1
    fixture.enqueue("new", 8)
    assert fixture.grant().count("new") == 8
    assert fixture.slots.in_use(EndpointClass.SUSPECT) == 4
    assert fixture.slots.slow_count == 20


def test_one_success_makes_a_suspect_healthy() -> None:
    fixture = SlotsFixture(total=40)
    fixture.enqueue("a", 1)
    fixture.grant()
    fixture.finish("a", delivered=False)
    fixture.enqueue("a", 2)
    fixture.grant()
    assert fixture.slots.in_use(EndpointClass.SUSPECT) == 2
    fixture.finish("a", delivered=True)
    assert fixture.slots.in_use(EndpointClass.SUSPECT) == 0
    assert fixture.slots.in_use(EndpointClass.HEALTHY) == 1


def test_retries_leave_half_of_the_cap_to_new_events() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a", 20, Priority.RETRY)
    fixture.grant()
    assert fixture.in_use("a") == START_CAP // 2
    fixture.enqueue("a", 20)
    fixture.grant()
    assert fixture.in_use("a") == START_CAP


def test_a_cap_of_one_serves_in_order_of_arrival() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a", 1, Priority.RETRY, ceiling=1)
    fixture.enqueue("a", 1, Priority.FIRST, ceiling=1)
    fixture.enqueue("a", 1, Priority.RETRY, ceiling=1)
    order = []
    while fixture.grant():
        order.append(next(iter(fixture.in_flight)).split()[1])
        fixture.finish("a")
    assert order == ["retry", "first", "retry"]


def test_a_test_finds_a_slot_when_all_others_are_in_use() -> None:
    fixture = SlotsFixture(total=20)
    fixture.respond_once("a", "b", "c")
    for name in "abc":
        fixture.enqueue(name, 100)
    fixture.grant()
    assert fixture.slots.free_count == 1
    fixture.enqueue("a/test", priority=Priority.TEST)
    assert fixture.grant() == ["a/test"]


def test_one_customers_tests_take_two_slots_at_most() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a/test", 5, Priority.TEST)
    assert len(fixture.grant()) == TEST_CAP


# -- accounts -------------------------------------------------------------------------------------------------

TIMEOUT = 10.0


def silent_account(slots: Slots[str], account_id: str, endpoints: int, waiters: int) -> None:
    """Endpoints of an account that failed, with deliveries that wait."""
    for number in range(endpoints):
        name = f"{account_id} {number}"
        slots.enqueue(name, f"{name} failed", account_id=account_id)
        slots.grant(0.0)
        slots.release(name, f"{name} failed", 0.0, False)
    for number in range(endpoints):
        for waiter in range(waiters):
            slots.enqueue(f"{account_id} {number}", f"{account_id} {number} {waiter}", account_id=account_id)


@pytest.mark.parametrize("endpoints", [40, 64, 400])
def test_a_failure_costs_at_most_one_silent_attempt(endpoints: int) -> None:
    slots: Slots[str] = Slots(256)
    silent_account(slots, "silent", endpoints, 4)
    now, started_at = 0.0, dict.fromkeys(slots.grant(0.0), 0.0)
    # A webhook of another account fails once, and its next delivery comes at once.
    slots.enqueue("healthy", "failed", account_id="other")
    started_at.update(dict.fromkeys(slots.grant(now), now))
    if ("healthy", "failed") in started_at:
        slots.release("healthy", "failed", now, False)
        del started_at["healthy", "failed"]
    slots.enqueue("healthy", "next", account_id="other")
    while ("healthy", "next") not in started_at:
        now += 1.0
        for name, waiter in [grant for grant, since in started_at.items() if now - since >= TIMEOUT]:
            slots.release(name, waiter, now, False)
            del started_at[name, waiter]
        started_at.update(dict.fromkeys(slots.grant(now), now))
        assert now <= TIMEOUT


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_the_account_with_the_fewest_slots_goes_first(waiters: list[tuple[int, int]], random: Random) -> None:
    slots: Slots[int] = Slots(9)
    account_of: dict[int, str] = {}
    for waiter, (account, endpoint) in enumerate(waiters):
        account_of[waiter] = f"account {account}"
        slots.enqueue(f"{account} {endpoint}", waiter, account_id=account_of[waiter])
    in_flight: dict[int, str] = {}
    waiting = Counter(account_of.values())
    while waiting.total():
        before = Counter(account_of[waiter] for waiter in in_flight)
        for name, waiter in slots.grant(0.0):
            owner = account_of[waiter]
            # No endpoint reaches its own cap here: every other account could have had this slot.
            assert all(before[owner] <= before[other] for other in waiting if waiting[other])
            before[owner] += 1
            waiting[owner] -= 1
            in_flight[waiter] = name
        ended = random.choice(list(in_flight))
        # No attempt was made, so all stay in one class.
        slots.release(in_flight.pop(ended), ended, 0.0, None)


def test_an_account_without_a_request_takes_one_beyond_shares() -> None:
    slots: Slots[str] = Slots(256)
    for number in range(400):
        slots.enqueue(f"hangs {number}", str(number), account_id="attacker")
    # All are new, as after a start: they take the whole share of the new ones.
    assert len(slots.grant(0.0)) == 128
    slots.enqueue("other", "first", account_id="other")
    slots.enqueue("other", "second", account_id="other")
    assert slots.grant(0.0) == [("other", "first")]
    slots.release("other", "first", 0.1, True)
    assert slots.grant(0.1) == [("other", "second")]


def test_a_lone_account_has_the_whole_share_of_its_class() -> None:
    slots: Slots[str] = Slots(256)
    silent_account(slots, "silent", 100, 1)
    assert len(slots.grant(0.0)) == 64


def test_endpoints_of_an_account_take_turns() -> None:
    slots: Slots[str] = Slots(6)
    for name in ("a", "a", "a", "b", "c", "other"):
        slots.enqueue(name, f"{name} {slots.waiting_count()}", account_id="other" if name == "other" else "acme")
    assert [name for name, _ in slots.grant(0.0)] == ["a", "other", "b"]


# -- shedding -------------------------------------------------------------------------------------------------


def test_a_burst_to_a_fast_endpoint_waits_in_memory() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("fast", 5_000)
    done = 0
    while granted := fixture.grant():
        assert fixture.slots.shed(fixture.now) == []
        fixture.now += 0.02
        fixture.finish("fast", len(granted))
        done += len(granted)
    assert done == 5_000


def test_waits_longer_than_five_seconds_are_shed() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("slow", 8)
    fixture.grant()
    fixture.now = 1.0
    fixture.finish("slow", 8)
    fixture.enqueue("slow", 1_000)
    fixture.grant()
    assert fixture.slots.shed(fixture.now) == []
    fixture.now += MIN_OVERLOAD_SECONDS
    shed_waiters = fixture.slots.shed(fixture.now)
    in_use = fixture.in_use("slow")
    assert fixture.slots.waiting_count() == MAX_WAIT_SECONDS * 32
    assert in_use + len(shed_waiters) + fixture.slots.waiting_count() == 1_000
    # The oldest stay, the newest are held.
    assert shed_waiters[0][0].endswith(" 1008")
    assert {reason for _, reason in shed_waiters} == {HoldReason.BUSY}


def test_a_hanging_endpoint_is_detected_at_its_first_requests() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("hangs", 500)
    fixture.grant()
    assert fixture.slots.shed(fixture.now) == []
    fixture.now = 4.0
    shed_waiters = fixture.slots.shed(fixture.now)
    assert fixture.slots.waiting_count() == 10
    assert len(shed_waiters) == 500 - 8 - 10


def test_a_cap_of_one_at_ten_seconds_sheds_all_waiters() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("hangs", 8)
    fixture.grant()
    fixture.now = 10.0
    fixture.finish("hangs", 8, delivered=False)
    fixture.enqueue("hangs", 3)
    fixture.grant()
    assert len(fixture.slots.shed(fixture.now)) == 2


def test_one_slow_response_among_many_fast_ones_sheds_nothing() -> None:
    fixture = SlotsFixture()
    fixture.respond_once("a")
    fixture.enqueue("a", 3_000)
    fixture.grant()
    for _ in range(300):
        fixture.now += 0.03
        # All but the oldest respond.
        for waiter in list(fixture.in_flight)[1:]:
            fixture.slots.release(fixture.in_flight.pop(waiter), waiter, fixture.now, True)
        fixture.grant()
        assert fixture.slots.shed(fixture.now) == []


def test_a_short_moment_without_responses_sheds_nothing() -> None:
    fixture = SlotsFixture()
    fixture.respond_once("fast")
    fixture.enqueue("fast", 5_000)
    done = 0
    while granted := fixture.grant():
        # Sometimes the machine is busy, and requests take ten times as long.
        for _ in range(3 if done % 500 < 32 else 0):
            fixture.now += 0.05
            assert fixture.slots.shed(fixture.now) == []
        fixture.now += 0.01
        fixture.finish("fast", len(granted))
        assert fixture.slots.shed(fixture.now) == []
        done += len(granted)
    assert done == 5_000


def test_a_busy_process_sheds_nothing() -> None:
    fixture = SlotsFixture(total=9)
    for number in range(8):
        fixture.enqueue(f"endpoint {number}")
        fixture.grant()
    fixture.now = 1.0
    for number in range(8):
        fixture.finish(f"endpoint {number}")
    for number in range(8):
        fixture.enqueue(f"endpoint {number}", 1_000)
    fixture.grant()
    assert fixture.slots.free_count == 1
    assert fixture.slots.shed(fixture.now) == []


def test_tests_are_never_shed() -> None:
    fixture = SlotsFixture()
    fixture.enqueue("a/test", 50, Priority.TEST)
    fixture.grant()
    fixture.now = 9.0
    assert fixture.slots.shed(fixture.now) == []


def test_a_forgotten_endpoint_is_new_again() -> None:
    fixture = SlotsFixture()
    fixture.respond_once("first")
    for number in range(10_001):
        fixture.respond_once(f"endpoint {number}")
    fixture.enqueue("first", 100)
    fixture.grant()
    assert fixture.slots.in_use(EndpointClass.NEW) == START_CAP


def test_the_endpoint_that_rests_longest_is_forgotten_first() -> None:
    fixture = SlotsFixture()
    fixture.slots = Slots(256, max_idle_queues=2)
    for name in ("a", "b", "a"):
        fixture.respond_once(name)
    # Maintenance uses no endpoint.
    fixture.slots.shed(fixture.now)
    fixture.respond_once("c")
    fixture.enqueue("a", 1)
    fixture.enqueue("b", 1)
    fixture.grant()
    assert (fixture.slots.in_use(EndpointClass.HEALTHY), fixture.slots.in_use(EndpointClass.NEW)) == (1, 1)


def test_waiters_of_a_full_process_are_short_of_slots() -> None:
    fixture = SlotsFixture(total=5)
    fixture.respond_once("a", "b")
    fixture.enqueue("a", 4)
    fixture.grant()
    assert list(fixture.slots.starved_waiters()) == []
    fixture.enqueue("b", 2)
    fixture.enqueue("b", priority=Priority.RETRY)
    assert fixture.grant() == []
    # The oldest of each kind.
    assert list(fixture.slots.starved_waiters()) == ["b first 7", "b retry 9"]
    fixture.finish("a", 4)
    fixture.grant()
    assert list(fixture.slots.starved_waiters()) == []


def test_a_waiter_for_its_own_cap_is_not_short_of_slots() -> None:
    fixture = SlotsFixture(total=3)
    fixture.respond_once("a")
    fixture.enqueue("a", 3, ceiling=2)
    assert fixture.grant() == ["a", "a"]
    assert list(fixture.slots.starved_waiters()) == []


def test_a_waiter_for_its_classes_share_is_not_short_of_slots() -> None:
    fixture = SlotsFixture(total=9)
    fixture.enqueue("new", 6)
    assert len(fixture.grant()) == 4
    assert list(fixture.slots.starved_waiters()) == []


def test_a_suspect_endpoint_is_never_short_of_slots() -> None:
    fixture = SlotsFixture(total=9)
    fixture.respond_once("healthy")
    fixture.enqueue("failing")
    fixture.grant()
    fixture.finish("failing", delivered=False)
    fixture.enqueue("healthy", 8)
    fixture.grant()
    fixture.enqueue("failing")
    assert fixture.grant() == []
    assert list(fixture.slots.starved_waiters()) == []


def test_a_test_is_short_of_slots_when_none_at_all_is_free() -> None:
    fixture = SlotsFixture(total=2)
    fixture.respond_once("a")
    fixture.enqueue("a")
    fixture.grant()
    fixture.enqueue("a/test", 1, Priority.TEST)
    assert fixture.grant() == ["a/test"]
    fixture.enqueue("b/test", 1, Priority.TEST)
    assert fixture.grant() == []
    assert list(fixture.slots.starved_waiters()) == ["b/test test 4"]
