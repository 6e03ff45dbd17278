"""A request of more than a second gives its slot back, and no account has all slow slots."""

import pytest

from streams.core.deliveries.delivery import HoldReason
from streams.core.queues.endpoint_queue import MIN_OVERLOAD_SECONDS, SLOW_SECONDS, EndpointClass, Priority
from streams.core.queues.slots import SLOW_SLOTS, Slots

TOTAL = 256
# How often the slots are maintained while nothing else happens.
STEP_SECONDS = 0.25
TIMEOUT_SECONDS = 30.0


class SlowFixture:
    """Slots, and a clock that tests set. Each request is named after its account, its webhook and a number."""

    def __init__(self, total: int = TOTAL) -> None:
        self.slots: Slots[tuple[str, int, int]] = Slots(total)
        self.now = 0.0
        self.since: dict[tuple[str, int, int], float] = {}
        self._names: dict[tuple[str, int, int], str] = {}
        self._count = 0

    def enqueue(self, account: str, webhook: int = 0, count: int = 1, priority: Priority = Priority.FIRST) -> None:
        for _ in range(count):
            self._count += 1
            name = f"{account} {webhook} {priority if priority is Priority.TEST else ''}"
            self.slots.enqueue(name, (account, webhook, self._count), priority, 32, account)

    def grant(self) -> list[str]:
        """The accounts of the requests that may go."""
        granted = self.slots.grant(self.now)
        self.since |= {waiter: self.now for _, waiter in granted}
        self._names |= {waiter: name for name, waiter in granted}
        return [account for _, (account, _, _) in granted]

    def end(self, waiter: tuple[str, int, int], is_delivered: bool = True) -> None:
        del self.since[waiter]
        self.slots.release(self._names.pop(waiter), waiter, self.now, is_delivered)

    def end_all(self, account: str, is_delivered: bool = True) -> None:
        for waiter in [waiter for waiter in self.since if waiter[0] == account]:
            self.end(waiter, is_delivered)

    def respond_once(self, account: str, webhooks: int) -> None:
        for webhook in range(webhooks):
            self.enqueue(account, webhook)
            self.grant()
            self.end_all(account)

    def hang(self, account: str, webhooks: int) -> None:
        """The webhooks of an account have answered once, and then no more: a slot for each as far as it gets one."""
        self.respond_once(account, webhooks)
        for webhook in range(webhooks):
            self.enqueue(account, webhook)
        self.grant()

    def pass_time(self, seconds: float = SLOW_SECONDS + 0.1) -> None:
        self.now += seconds
        self.slots.shed(self.now, [])

    def in_flight(self, account: str) -> int:
        return sum(waiter[0] == account for waiter in self.since)


def test_a_request_of_more_than_a_second_gives_its_slot_back() -> None:
    fixture = SlowFixture()
    fixture.hang("acme", 100)
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (TOTAL - 100, 0)
    fixture.pass_time()
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (TOTAL, 100)
    fixture.end_all("acme")
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (TOTAL, 0)


def test_an_account_alone_has_half_of_the_slow_slots() -> None:
    fixture = SlowFixture()
    fixture.hang("acme", 1_000)
    assert fixture.in_flight("acme") == TOTAL - 1
    for _ in range(5):
        fixture.pass_time()
        fixture.grant()
    assert fixture.slots.slow_count == SLOW_SLOTS * TOTAL // 2
    # What it has beyond these is a quarter of the slots.
    assert fixture.slots.free_count == TOTAL - TOTAL // 4


def test_an_account_that_comes_later_finds_slow_slots() -> None:
    fixture = SlowFixture()
    fixture.hang("first", 1_000)
    for _ in range(3):
        fixture.pass_time()
        fixture.grant()
    fixture.hang("second", 100)
    fixture.pass_time()
    assert fixture.slots.slow_count == SLOW_SLOTS * TOTAL // 2 + 100


@pytest.mark.parametrize("accounts", [1, 3, 10])
@pytest.mark.parametrize("kind", ["its events", "its first events", "its tests"])
def test_hanging_accounts_delay_no_other_by_over_a_second(accounts: int, kind: str) -> None:
    fixture = SlowFixture()
    fixture.respond_once("other", 1)
    for account in range(accounts):
        fixture.respond_once(f"hangs {account}", 300)
    webhook, longest_wait = 0, 0.0
    asked_at: float | None = None
    for step in range(round((TIMEOUT_SECONDS + 5) / STEP_SECONDS)):
        for account in range(accounts):
            # An event for all webhooks of an account each five seconds.
            if step % 20 == 0:
                for number in range(300):
                    fixture.enqueue(f"hangs {account}", number)
                    if kind == "its tests":
                        fixture.enqueue(f"hangs {account}", number, priority=Priority.TEST)
        if asked_at is None:
            webhook += kind == "its first events"
            fixture.enqueue("other", webhook, priority=Priority.TEST if kind == "its tests" else Priority.FIRST)
            asked_at = fixture.now
        fixture.grant()
        fixture.slots.shed(fixture.now)
        longest_wait = max(longest_wait, fixture.now - asked_at)
        if fixture.in_flight("other"):
            fixture.end_all("other")
            # Its slot is free at once, also for a request of another account.
            fixture.grant()
            asked_at = None
        for waiter in [waiter for waiter, since in fixture.since.items() if fixture.now - since >= TIMEOUT_SECONDS]:
            fixture.end(waiter, is_delivered=False)
        fixture.now += STEP_SECONDS
    assert longest_wait <= SLOW_SECONDS + STEP_SECONDS


def test_a_new_account_that_finds_few_slow_slots_leaves_slots() -> None:
    fixture = SlowFixture()
    for account in range(10):
        fixture.hang(f"hangs {account}", 300)
    for _ in range(3):
        fixture.pass_time()
        fixture.grant()
    # Most of its requests keep their slots: they are slow all the same.
    fixture.hang("late", 1_000)
    for _ in range(3):
        fixture.pass_time()
        fixture.grant()
    assert fixture.slots.free_count > 10


def test_an_account_behind_one_that_is_kept_back_has_its_turn() -> None:
    fixture = SlowFixture(total=16)
    fixture.respond_once("busy", 4)
    fixture.hang("hangs", 40)
    for _ in range(3):
        fixture.pass_time()
        fixture.grant()
    # It has more requests in flight than the other account, none of them slow.
    for webhook in range(4):
        fixture.enqueue("busy", webhook, count=5)
    assert set(fixture.grant()) == {"busy"}


def test_an_account_with_few_slow_requests_is_not_kept_back() -> None:
    fixture = SlowFixture()
    for account in range(10):
        fixture.hang(f"hangs {account}", 300)
    fixture.pass_time()
    fixture.hang("mostly fast", 2)
    for _ in range(4):
        fixture.pass_time()
        fixture.grant()
    assert fixture.in_flight("mostly fast") == 2
    fixture.respond_once("mostly fast", 100)
    for webhook in range(100):
        fixture.enqueue("mostly fast", webhook)
    assert fixture.grant().count("mostly fast") == 100


def test_what_an_account_is_kept_back_from_is_held() -> None:
    fixture = SlowFixture()
    fixture.hang("hangs", 400)
    fixture.pass_time()
    fixture.grant()
    fixture.pass_time()
    assert fixture.grant() == ["hangs"]
    waiting = fixture.slots.waiting_count()
    assert waiting == 400 - TOTAL - TOTAL // 4
    assert fixture.slots.shed(fixture.now) == []
    shed = fixture.slots.shed(fixture.now + MIN_OVERLOAD_SECONDS)
    assert [reason for _, reason in shed] == [HoldReason.BUSY] * waiting


def test_what_is_kept_back_needs_no_other_process() -> None:
    fixture = SlowFixture(total=4)
    fixture.hang("hangs", 30)
    for _ in range(4):
        fixture.pass_time()
        fixture.grant()
    assert list(fixture.slots.starved_waiters()) == []


def test_the_oldest_slow_request_takes_a_freed_slow_slot() -> None:
    fixture = SlowFixture(total=16)
    fixture.hang("acme", 15)
    fixture.pass_time()
    fixture.grant()
    for webhook in range(100, 104):
        fixture.enqueue("acme", webhook)
    assert fixture.grant() == ["acme"] * 4
    fixture.pass_time()
    # One of the four has moved: half of the slow slots are in use.
    assert (fixture.slots.slow_count, fixture.slots.free_count) == (16, 13)
    first = next(iter(fixture.since))
    fixture.end(first)
    assert (fixture.slots.slow_count, fixture.slots.free_count) == (16, 14)
    assert fixture.slots.in_use(EndpointClass.SUSPECT) == 2


def test_a_slow_request_without_a_slow_slot_frees_its_slot() -> None:
    fixture = SlowFixture(total=2)
    fixture.hang("acme", 1)
    for webhook in range(1, 3):
        fixture.pass_time()
        fixture.enqueue("acme", webhook)
        fixture.grant()
    fixture.pass_time()
    assert (fixture.slots.slow_count, fixture.slots.free_count) == (2, 1)
    last = list(fixture.since)[-1]
    fixture.end(last)
    assert (fixture.slots.slow_count, fixture.slots.free_count) == (2, 2)


def test_a_slot_that_is_given_back_is_not_freed_twice() -> None:
    fixture = SlowFixture(total=4)
    fixture.hang("waiting for a token", 1)
    [waiter] = fixture.since
    fixture.slots.move_to_slow(fixture._names[waiter], waiter)
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (4, 1)
    fixture.pass_time()
    fixture.grant()
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (4, 1)
    fixture.end(waiter)
    assert (fixture.slots.free_count, fixture.slots.slow_count) == (4, 0)
