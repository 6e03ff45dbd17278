"""Slots of an endpoint with a rate: no second has more requests than its rate and its burst, and no other waits."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.deliveries.delivery import HoldReason
from streams.core.queues.endpoint_queue import MAX_WAIT_SECONDS
from streams.core.queues.rate import Rate
from streams.core.queues.slots import Slots

START = 1000.0
rates = st.builds(Rate, st.floats(0.1, 200), st.integers(1, 50))


class RatedSlots:
    """Slots, and a clock for them and for rates. Requests end at once."""

    def __init__(self, rate: Rate | None, known_since: float = 0.0, **limits: int) -> None:
        self.now = START
        self.rate = rate
        self.known_since = known_since
        self.slots: Slots[int] = Slots(256, lambda: self.now, **limits)
        self.sent_at: list[float] = []
        self.held: list[HoldReason] = []
        self._count = 0

    def arrive(self, name: str = "rated") -> None:
        self._count += 1
        rate = self.rate if name == "rated" else None
        if self.slots.try_acquire(name, self._count, self.now, rate=rate, rate_known_since=self.known_since):
            self._send(name, self._count)
        else:
            self.slots.enqueue(name, self._count)
            self.grant()
            self.held += [reason for _, reason in self.slots.shed(self.now, [name])]

    def advance(self, seconds: float) -> None:
        """Let time pass, and grant at each moment that a rate allows."""
        end = self.now + seconds
        while (wait := self.slots.seconds_until_unblocked) is not None and self.now + wait <= end:
            # As a timer, which is never early.
            self.now += wait + 1e-9
            self.grant()
        self.now = max(self.now, end)
        self.grant()

    def grant(self) -> None:
        while grants := self.slots.grant(self.now):
            for name, waiter in grants:
                self._send(name, waiter)

    def _send(self, name: str, waiter: int) -> None:
        if name == "rated":
            self.sent_at.append(self.now)
        self.slots.release(name, waiter, self.now, True)

    @property
    def most_in_a_second(self) -> int:
        return max((sum(start <= at < start + 1 for at in self.sent_at) for start in self.sent_at), default=0)


@given(rates, st.lists(st.tuples(st.integers(0, 30), st.floats(0, 2)), max_size=30), st.sampled_from([0.0, START]))
def test_no_second_has_more_than_the_rate_and_the_burst(
    rate: Rate, arrivals: list[tuple[int, float]], known_since: float
) -> None:
    rated = RatedSlots(rate, known_since)
    for count, pause in arrivals:
        for _ in range(count):
            rated.arrive()
        rated.advance(pause)
    rated.advance(10)
    assert rated.most_in_a_second <= rate.per_second + rate.burst
    # Each one was sent, or is held because of the rate.
    assert len(rated.sent_at) + len(rated.held) == sum(count for count, _ in arrivals)
    assert set(rated.held) <= {HoldReason.RATE}
    assert rated.slots.waiting_count() == 0


def test_a_burst_is_sent_at_once_and_the_rest_evenly() -> None:
    rated = RatedSlots(Rate(5, 3))
    for _ in range(10):
        rated.arrive()
    rated.advance(5)
    waits = [round(at - START, 3) for at in rated.sent_at]
    assert waits == [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]


def test_what_would_wait_longer_than_five_seconds_is_held() -> None:
    rated = RatedSlots(Rate(2, 1))
    for _ in range(100):
        rated.arrive()
    assert rated.held == [HoldReason.RATE] * (100 - 1 - 2 * int(MAX_WAIT_SECONDS))
    slow = RatedSlots(Rate(0.1, 1))
    for _ in range(1000):
        slow.arrive()
    assert (len(slow.sent_at), len(slow.held)) == (1, 999)


def test_after_a_rebalance_at_most_one_request_is_early() -> None:
    """The process before may have used the whole burst a moment ago."""
    rated = RatedSlots(Rate(1, 10), known_since=START)
    for _ in range(5):
        rated.arrive()
    assert len(rated.sent_at) == 1
    rated.advance(3)
    assert [round(at - START) for at in rated.sent_at] == [0, 1, 2, 3]
    # A process that owns the endpoint for longer knows that the burst is unused.
    rested = RatedSlots(Rate(1, 10), known_since=START - 60)
    for _ in range(12):
        rested.arrive()
    assert len(rested.sent_at) == 10


def test_an_endpoint_that_used_its_rate_is_not_forgotten() -> None:
    rated = RatedSlots(Rate(1, 10), max_idle_queues=1)
    for _ in range(10):
        rated.arrive()
    rated.arrive("other")
    rated.now += 0.5
    for _ in range(3):
        rated.arrive()
    assert len(rated.sent_at) == 10


def test_a_forgotten_endpoint_begins_without_a_burst() -> None:
    rated = RatedSlots(Rate(1, 10), max_idle_queues=1)
    for _ in range(9):
        rated.arrive()
    for name in ("other", "another"):
        rated.arrive(name)
    for _ in range(3):
        rated.arrive()
    assert len(rated.sent_at) == 10


def test_the_end_of_another_endpoint_takes_no_burst_away() -> None:
    rated = RatedSlots(Rate(1, 10), max_idle_queues=2)
    rated.arrive()
    rated.now += 45
    for name in ("other", "another"):
        rated.arrive(name)
        rated.arrive()
    for _ in range(8):
        rated.arrive()
    assert len(rated.sent_at) == 11


def test_a_partition_that_comes_back_brings_no_burst() -> None:
    """Another process had the partition and may have used the burst."""
    rated = RatedSlots(Rate(1, 10))
    rated.arrive()
    rated.now += 60
    rated.known_since = rated.now
    for _ in range(5):
        rated.arrive()
    assert len(rated.sent_at) == 2


def test_accounts_share_the_memory_for_waiters() -> None:
    slots: Slots[str] = Slots(256, lambda: START, max_waiting_for_rates=10)

    def arrive(account: str, number: int) -> list[str]:
        name, waiter = f"wh_{account}", f"{account}{number}"
        rate = Rate(100, 1)
        if not slots.try_acquire(name, waiter, START, account_id=account, rate=rate):
            slots.enqueue(name, waiter, account_id=account)
        return [held for held, _ in slots.shed(START, [name])]

    assert [held for number in range(20) for held in arrive("loud", number)] == [f"loud{n}" for n in range(11, 20)]
    # The other account is not shed, though the memory was full.
    assert [held for number in range(4) for held in arrive("quiet", number)] == []
    assert len([held for held, _ in slots.shed(START)]) == 5


def test_each_of_many_accounts_has_one_waiter() -> None:
    slots: Slots[int] = Slots(256, lambda: START, max_waiting_for_rates=2)
    for waiter, account in enumerate("abcde" * 4):
        if not slots.try_acquire(account, waiter, START, account_id=account, rate=Rate(100, 1)):
            slots.enqueue(account, waiter, account_id=account)
            slots.shed(START, [account])
    assert slots.waiting_count() == len("abcde")


def test_a_burst_beyond_the_cap_waits_for_the_cap_alone() -> None:
    rated = RatedSlots(Rate(1, 50), known_since=-1000.0)
    for waiter in range(50):
        if not rated.slots.try_acquire("rated", waiter, START, rate=rated.rate, rate_known_since=-1000.0):
            rated.slots.enqueue("rated", waiter)
    assert rated.slots.shed(START) == []
    assert rated.slots.waiting_count() == 42


def test_a_slot_without_a_request_uses_nothing_of_the_rate() -> None:
    rated = RatedSlots(Rate(0.5, 1))
    assert rated.slots.try_acquire("rated", 1, START, rate=rated.rate)
    rated.slots.release("rated", 1, START, None)
    assert rated.slots.try_acquire("rated", 2, START, rate=rated.rate)
    rated.slots.release("rated", 2, START, True)
    assert not rated.slots.try_acquire("rated", 3, START, rate=rated.rate)


def test_a_rate_delays_no_other_endpoint() -> None:
    rated = RatedSlots(Rate(0.2, 1))
    rated.arrive()
    rated.arrive()
    assert rated.slots.waiting_count() == 1
    assert rated.slots.try_acquire("other", 99, rated.now)
    # It holds no slot while it waits.
    assert rated.slots.free_count == 255


def test_deliveries_that_wait_for_rates_are_limited_in_all() -> None:
    rated = RatedSlots(Rate(100, 1), max_waiting_for_rates=4)
    for _ in range(20):
        rated.arrive()
    assert rated.slots.waiting_count() == 4
    assert rated.held == [HoldReason.RATE] * 15


def test_a_changed_rate_counts_from_the_next_delivery_on() -> None:
    rated = RatedSlots(Rate(0.2, 1))
    rated.arrive()
    rated.arrive()
    rated.rate = Rate(10, 1)
    rated.arrive()
    rated.advance(1)
    assert len(rated.sent_at) == 3
    rated.arrive()
    rated.arrive()
    rated.rate = None
    rated.arrive()
    assert len(rated.sent_at) == 6
    assert rated.slots.seconds_until_unblocked is None
