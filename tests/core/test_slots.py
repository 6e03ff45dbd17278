"""Slots: caps and shares hold, turns are taken, nobody is forgotten, and who would wait too long is told."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.core.endpoint_queue import (
    LONGEST_WAIT_SECONDS,
    SLOW_SECONDS,
    START_CAP,
    STEADY_SECONDS,
    TEST_CAP,
    EndpointClass,
    Priority,
)
from streams.core.slots import Slots

TOTAL = 12
names = st.sampled_from(("a", "b", "c", "d"))


class SlotsMachine(RuleBasedStateMachine):
    """Anything may happen, in any order: asking, granting, success, failure, the passing of time."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[int] = Slots(TOTAL)
        self.now = 0.0
        self.asked: dict[int, tuple[str, Priority]] = {}
        self.ceilings: dict[str, int] = {}
        self.in_flight: dict[int, str] = {}
        self.granted: list[int] = []
        self.spilled: list[int] = []

    @rule(name=names, priority=st.sampled_from((Priority.FIRST, Priority.RETRY)), ceiling=st.integers(1, 10))
    def enqueue(self, name: str, priority: Priority, ceiling: int) -> None:
        self._ask(name, priority, ceiling)

    @rule(name=names)
    def ask_for_a_test(self, name: str) -> None:
        self._ask(f"{name}/test", Priority.TEST, 32)

    def _ask(self, name: str, priority: Priority, ceiling: int) -> None:
        waiter = len(self.asked)
        self.asked[waiter] = name, priority
        self.ceilings[name] = ceiling
        self.slots.enqueue(name, waiter, priority, ceiling)

    @rule(name=names, priority=st.sampled_from((Priority.FIRST, Priority.RETRY)), ceiling=st.integers(1, 10))
    def try_acquire(self, name: str, priority: Priority, ceiling: int) -> None:
        waiting, waiter = self.slots.waiting(), len(self.asked)
        if self.slots.try_acquire(name, waiter, self.now, priority, ceiling):
            # Just what asking and granting would have done; whoever may go goes first.
            assert self.slots.grant(self.now) == []
            assert self.slots.waiting() == waiting
            self.asked[waiter] = name, priority
            self.ceilings[name] = ceiling
            self.granted.append(waiter)
            self.in_flight[waiter] = name
            assert Counter(self.in_flight.values())[name] <= ceiling
        else:
            self._ask(name, priority, ceiling)

    @rule(seconds=st.floats(0.01, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def grant(self) -> None:
        before = Counter(self.in_flight.values())
        # Those that turned slow meanwhile are known from here on.
        self.slots.shed(self.now, [])
        suspects = self.slots.in_use(EndpointClass.SUSPECT)
        for name, waiter in self.slots.grant(self.now):
            assert self.asked[waiter][0] == name
            self.granted.append(waiter)
            self.in_flight[waiter] = name
        for name, count in Counter(self.in_flight.values()).items():
            assert count <= max(self.ceilings[name], before[name])
        # A line that turned suspect keeps what it had; suspects are granted nothing beyond their quarter.
        assert self.slots.in_use(EndpointClass.SUSPECT) <= max(TOTAL // 4, suspects)
        assert self.slots.grant(self.now) == []

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), delivered=st.sampled_from((True, False, None)))
    def release(self, data: st.DataObject, delivered: bool | None) -> None:
        self._release(data.draw(st.sampled_from(sorted(self.in_flight))), delivered)

    @rule()
    def shed(self) -> None:
        self.spilled += self.slots.shed(self.now)

    @invariant()
    def the_total_is_never_exceeded(self) -> None:
        assert len(self.in_flight) + self.slots.free == TOTAL
        assert sum(self.slots.in_use(endpoint_class) for endpoint_class in EndpointClass) == len(self.in_flight)

    @invariant()
    def the_last_slot_is_for_tests(self) -> None:
        ordinary = [name for name in self.in_flight.values() if "/test" not in name]
        assert len(ordinary) <= TOTAL - 1

    @invariant()
    def retries_hold_at_most_half_of_a_cap(self) -> None:
        for name in "abcd":
            again = [t for t, of in self.in_flight.items() if of == name and self.asked[t][1] is Priority.RETRY]
            assert len(again) <= max(START_CAP, 10) // 2

    @invariant()
    def a_ticket_is_granted_or_spilled_once_and_granted_in_its_lines_order(self) -> None:
        assert not set(self.granted) & set(self.spilled)
        assert len(set(self.spilled)) == len(self.spilled)
        for asked in set(self.asked.values()):
            mine = [waiter for waiter in self.granted if self.asked[waiter] == asked]
            assert mine == sorted(set(mine))

    def _release(self, waiter: int, delivered: bool | None) -> None:
        self.slots.release(self.in_flight.pop(waiter), waiter, self.now, delivered)

    def teardown(self) -> None:
        """Whoever asked gets a slot or was told to go, in the end."""
        self.grant()
        while self.in_flight:
            self._release(min(self.in_flight), False)
            self.grant()
        assert sorted(self.granted + self.spilled) == sorted(self.asked)
        assert self.slots.free == TOTAL
        assert self.slots.waiting() == 0


TestSlots = SlotsMachine.TestCase


class World:
    """Lines that send, with a clock that is told to move on."""

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

    def end(self, name: str, count: int = 1, delivered: bool | None = True) -> None:
        for waiter in [waiter for waiter, of in self.in_flight.items() if of == name][:count]:
            self.slots.release(self.in_flight.pop(waiter), waiter, self.now, delivered)

    def prove(self, *names: str) -> None:
        """Each line has answered once, in a moment."""
        for name in names:
            self.enqueue(name)
            self.grant()
            self.end(name)

    def in_use(self, name: str) -> int:
        return sum(of == name for of in self.in_flight.values())


def test_a_slot_is_acquired_at_once_only_if_nobody_waits() -> None:
    slots = Slots[str](START_CAP + 2)
    taken = [slots.try_acquire("a", f"a{number}", 0.0) for number in range(START_CAP + 1)]
    assert taken == [True] * 5 + [False] * 4  # one is for tests, and half for those that never answered
    slots.enqueue("b", "b")
    slots.release("a", "a0", 0.1, None)
    assert not slots.try_acquire("a", "late", 0.1)
    assert slots.grant(0.1) == [("b", "b")]


def test_hanging_endpoints_use_a_quarter_of_the_slots() -> None:
    slots = Slots[str](8)
    assert [slots.try_acquire("a", f"a{number}", 0.0) for number in range(2)] == [True, True]
    assert not slots.try_acquire("a", "late", SLOW_SECONDS + 0.1)


def test_a_cap_starts_at_eight_and_grows_with_each_success() -> None:
    world = World()
    world.enqueue("a", 100, ceiling=20)
    world.grant()
    assert world.in_use("a") == START_CAP
    world.end("a", 4)
    world.grant()
    assert world.in_use("a") == START_CAP + 4
    for _ in range(5):
        world.end("a", 4)
        world.grant()
    assert world.in_use("a") == 20


def test_a_failure_halves_the_cap_and_one_is_always_left() -> None:
    world = World()
    world.enqueue("a", 100)
    world.grant()
    world.end("a", 8, delivered=False)
    world.grant()
    assert world.in_use("a") == 1


def test_what_was_not_attempted_says_nothing_of_the_endpoint() -> None:
    world = World()
    world.enqueue("a", 20)
    world.grant()
    world.end("a", 8, delivered=None)
    world.grant()
    assert world.in_use("a") == START_CAP


def test_lines_that_wait_take_turns() -> None:
    world = World(total=5)
    world.prove("busy", "quiet")
    world.enqueue("busy", 10)
    world.enqueue("quiet")
    assert world.grant() == ["busy", "quiet", "busy", "busy"]


@given(st.integers(1, 20), st.integers(1, 5))
def test_a_quiet_line_waits_for_one_turn_of_each_other_at_most(burst: int, others: int) -> None:
    world = World(total=2)
    world.prove("quiet", *(f"busy {number}" for number in range(others)))
    for number in range(others):
        world.enqueue(f"busy {number}", burst)
    world.enqueue("quiet")
    order: list[str] = []
    while granted := world.grant():
        order += granted
        for name in granted:
            world.end(name)
    assert order.index("quiet") <= others
    assert len(order) == burst * others + 1


def test_lines_that_fail_hold_a_quarter_of_the_slots_together() -> None:
    world = World(total=40)
    for number in range(30):
        world.enqueue(f"broken {number}")
        world.grant()
        world.end(f"broken {number}", delivered=False)
    for number in range(30):
        world.enqueue(f"broken {number}", 5)
    assert len(world.grant()) == 10
    world.prove("healthy")
    world.enqueue("healthy", 50)
    assert set(world.grant()) == {"healthy"}


def test_hanging_endpoints_are_suspect_before_their_timeout() -> None:
    world = World(total=40)
    for number in range(3):
        world.enqueue(f"hangs {number}", 8)
    # Nothing is known of them: half of the slots, at most.
    assert len(world.grant()) == 20
    world.now = SLOW_SECONDS + 0.1
    world.enqueue("new", 8)
    assert world.grant() == ["new"] * 8
    assert world.slots.in_use(EndpointClass.SUSPECT) == 20


def test_one_success_ends_the_suspicion() -> None:
    world = World(total=40)
    world.enqueue("a", 1)
    world.grant()
    world.end("a", delivered=False)
    world.enqueue("a", 2)
    world.grant()
    assert world.slots.in_use(EndpointClass.SUSPECT) == 2
    world.end("a", delivered=True)
    assert world.slots.in_use(EndpointClass.SUSPECT) == 0
    assert world.slots.in_use(EndpointClass.HEALTHY) == 1


def test_retries_leave_half_of_the_cap_to_new_events() -> None:
    world = World()
    world.enqueue("a", 20, Priority.RETRY)
    world.grant()
    assert world.in_use("a") == START_CAP // 2
    world.enqueue("a", 20)
    world.grant()
    assert world.in_use("a") == START_CAP


def test_a_cap_of_one_serves_new_events_and_retries_as_they_came() -> None:
    world = World()
    world.enqueue("a", 1, Priority.RETRY, ceiling=1)
    world.enqueue("a", 1, Priority.FIRST, ceiling=1)
    world.enqueue("a", 1, Priority.RETRY, ceiling=1)
    order = []
    while world.grant():
        order.append(next(iter(world.in_flight)).split()[1])
        world.end("a")
    assert order == ["retry", "first", "retry"]


def test_a_test_finds_a_slot_however_busy_the_others_are() -> None:
    world = World(total=20)
    world.prove("a", "b", "c")
    for name in "abc":
        world.enqueue(name, 100)
    world.grant()
    assert world.slots.free == 1
    world.enqueue("a/test", priority=Priority.TEST)
    assert world.grant() == ["a/test"]


def test_one_customers_tests_take_two_slots_at_most() -> None:
    world = World()
    world.enqueue("a/test", 5, Priority.TEST)
    assert len(world.grant()) == TEST_CAP


# -- who waits too long ----------------------------------------------------------------------------------------


def test_a_burst_to_a_fast_endpoint_waits_in_memory() -> None:
    world = World()
    world.enqueue("fast", 5_000)
    done = 0
    while granted := world.grant():
        assert world.slots.shed(world.now) == []
        world.now += 0.02
        world.end("fast", len(granted))
        done += len(granted)
    assert done == 5_000


def test_what_waits_longer_than_five_seconds_is_shed() -> None:
    world = World()
    world.enqueue("slow", 8)
    world.grant()
    world.now = 1.0
    world.end("slow", 8)
    world.enqueue("slow", 1_000)
    world.grant()
    assert world.slots.shed(world.now) == []
    world.now += STEADY_SECONDS
    spilled = world.slots.shed(world.now)
    in_use = world.in_use("slow")
    assert world.slots.waiting() == LONGEST_WAIT_SECONDS * 32
    assert in_use + len(spilled) + world.slots.waiting() == 1_000
    # The oldest wait here, the newest elsewhere.
    assert spilled[0].endswith(" 1008")


def test_a_hanging_endpoint_is_noticed_during_its_first_requests() -> None:
    world = World()
    world.enqueue("hangs", 500)
    world.grant()
    assert world.slots.shed(world.now) == []
    world.now = 4.0
    spilled = world.slots.shed(world.now)
    assert world.slots.waiting() == 10
    assert len(spilled) == 500 - 8 - 10


def test_behind_a_cap_of_one_and_ten_seconds_nobody_waits() -> None:
    world = World()
    world.enqueue("hangs", 8)
    world.grant()
    world.now = 10.0
    world.end("hangs", 8, delivered=False)
    world.enqueue("hangs", 3)
    world.grant()
    assert len(world.slots.shed(world.now)) == 2


def test_one_slow_answer_among_many_quick_ones_sends_nobody_away() -> None:
    world = World()
    world.prove("a")
    world.enqueue("a", 3_000)
    world.grant()
    for _ in range(300):
        world.now += 0.03
        # All but the oldest come back.
        for waiter in list(world.in_flight)[1:]:
            world.slots.release(world.in_flight.pop(waiter), waiter, world.now, True)
        world.grant()
        assert world.slots.shed(world.now) == []


def test_a_moment_in_which_nothing_comes_back_sends_nobody_away() -> None:
    world = World()
    world.prove("fast")
    world.enqueue("fast", 5_000)
    done = 0
    while granted := world.grant():
        # Now and then the machine has no time for the endpoint, and what is out takes ten times as long.
        for _ in range(3 if done % 500 < 32 else 0):
            world.now += 0.05
            assert world.slots.shed(world.now) == []
        world.now += 0.01
        world.end("fast", len(granted))
        assert world.slots.shed(world.now) == []
        done += len(granted)
    assert done == 5_000


def test_a_busy_process_sheds_nothing() -> None:
    world = World(total=9)
    for number in range(8):
        world.enqueue(f"line {number}")
        world.grant()
    world.now = 1.0
    for number in range(8):
        world.end(f"line {number}")
    for number in range(8):
        world.enqueue(f"line {number}", 1_000)
    world.grant()
    assert world.slots.free == 1
    assert world.slots.shed(world.now) == []


def test_tests_are_never_sent_away() -> None:
    world = World()
    world.enqueue("a/test", 50, Priority.TEST)
    world.grant()
    world.now = 9.0
    assert world.slots.shed(world.now) == []


def test_a_line_that_was_forgotten_starts_anew() -> None:
    world = World()
    world.prove("first")
    for number in range(10_001):
        world.prove(f"line {number}")
    world.enqueue("first", 100)
    world.grant()
    assert world.slots.in_use(EndpointClass.NEW) == START_CAP
