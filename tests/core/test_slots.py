"""Slots: caps hold, turns are taken, nobody is forgotten."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.core.slots import Slots

TOTAL = 5
webhooks = st.sampled_from(("a", "b", "c"))
caps = st.integers(1, 4)


class SlotsMachine(RuleBasedStateMachine):
    """Anything may happen: asking, granting, releasing, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[int] = Slots(TOTAL)
        self.cap: dict[str, int] = {}
        self.asked: dict[int, str] = {}
        self.granted: list[int] = []
        self.in_use: Counter[str] = Counter()

    @rule(webhook=webhooks, cap=caps)
    def ask(self, webhook: str, cap: int) -> None:
        ticket = len(self.asked)
        self.asked[ticket] = webhook
        self.cap[webhook] = cap
        self.slots.ask(webhook, cap, ticket)

    @rule()
    def grant(self) -> None:
        before = self.in_use.copy()
        for webhook, ticket in self.slots.grant():
            assert self.asked[ticket] == webhook
            self.granted.append(ticket)
            self.in_use[webhook] += 1
        for webhook, count in self.in_use.items():
            assert count <= max(self.cap[webhook], before[webhook])
        assert self.slots.grant() == []
        self._nobody_waits_in_vain()

    @precondition(lambda self: self.in_use.total() > 0)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        webhook = data.draw(st.sampled_from(sorted(+self.in_use)))
        self.in_use[webhook] -= 1
        self.slots.release(webhook)

    def _nobody_waits_in_vain(self) -> None:
        if self.slots.free:
            for ticket in self.asked.keys() - set(self.granted):
                webhook = self.asked[ticket]
                assert self.in_use[webhook] >= self.cap[webhook]

    @invariant()
    def the_total_is_never_exceeded(self) -> None:
        assert self.in_use.total() + self.slots.free == TOTAL
        assert self.slots.free >= 0

    @invariant()
    def a_ticket_is_granted_once_and_in_its_webhooks_order(self) -> None:
        for webhook in "abc":
            mine = [ticket for ticket in self.granted if self.asked[ticket] == webhook]
            assert mine == sorted(set(mine))

    def teardown(self) -> None:
        """Whoever asked gets a slot in the end."""
        self.grant()
        while self.in_use.total():
            self.release_one()
            self.grant()
        assert sorted(self.granted) == sorted(self.asked)
        assert self.slots.free == TOTAL

    def release_one(self) -> None:
        webhook = sorted(+self.in_use)[0]
        self.in_use[webhook] -= 1
        self.slots.release(webhook)


TestSlots = SlotsMachine.TestCase


def test_webhooks_that_wait_take_turns() -> None:
    slots: Slots[str] = Slots(4)
    for number in range(10):
        slots.ask("busy", 8, f"busy {number}")
    slots.ask("quiet", 8, "quiet")
    assert [ticket for _, ticket in slots.grant()] == ["busy 0", "quiet", "busy 1", "busy 2"]


@given(st.integers(1, 20), st.integers(1, 5))
def test_a_quiet_webhook_waits_for_one_turn_of_each_other_at_most(burst: int, others: int) -> None:
    slots: Slots[str] = Slots(1)
    for number in range(others):
        for _ in range(burst):
            slots.ask(f"busy {number}", 1, "busy")
    slots.ask("quiet", 1, "quiet")
    order: list[str] = []
    while granted := slots.grant():
        for webhook, ticket in granted:
            order.append(ticket)
            slots.release(webhook)
    assert order.index("quiet") <= others
    assert len(order) == burst * others + 1


def test_a_smaller_cap_takes_nothing_away_but_grants_nothing_more() -> None:
    slots: Slots[int] = Slots(10)
    for ticket in range(4):
        slots.ask("a", 4, ticket)
    assert len(slots.grant()) == 4
    slots.ask("a", 2, 4)
    slots.release("a")
    slots.release("a")
    assert slots.grant() == []
    slots.release("a")
    assert slots.grant() == [("a", 4)]
