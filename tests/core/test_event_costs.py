"""An event is expected to become what the last ones of its account became."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.events import event_costs
from streams.core.events.event_costs import MAX_ACCOUNTS, WEBHOOKS_PER_DELIVERY, EventCosts


def test_an_unknown_account_wants_each_event_everywhere() -> None:
    assert [EventCosts().deliveries_per_event("acme", webhooks) for webhooks in (0, 1, 100)] == [1, 1, 100]


def test_webhooks_that_want_few_events_cost_little() -> None:
    costs = EventCosts()
    costs.note("acme", 1)
    assert costs.deliveries_per_event("acme", 100) == 1
    assert costs.deliveries_per_event("acme", 10 * WEBHOOKS_PER_DELIVERY) == 11


def test_more_than_expected_counts_at_once() -> None:
    costs = EventCosts()
    for deliveries in (1, 1, 100):
        costs.note("acme", deliveries)
    assert costs.deliveries_per_event("acme", 100) == 100
    costs.note("acme", 1)
    assert 75 < costs.deliveries_per_event("acme", 100) < 100
    for _ in range(50):
        costs.note("acme", 1)
    assert costs.deliveries_per_event("acme", 100) == 1


@given(st.lists(st.integers(0, 1000)), st.integers(0, 1000))
def test_the_cost_is_between_one_and_every_webhook(became: list[int], webhooks: int) -> None:
    costs = EventCosts()
    for deliveries in became:
        costs.note("acme", deliveries)
    assert (
        1 <= costs.deliveries_per_event("acme", webhooks) <= max(1, webhooks + round(webhooks / WEBHOOKS_PER_DELIVERY))
    )


def test_the_least_recent_account_is_forgotten() -> None:
    costs = EventCosts()
    for number in range(MAX_ACCOUNTS + 1):
        costs.note(f"acc_{number}", 1)
    assert (costs.deliveries_per_event("acc_0", 50), costs.deliveries_per_event("acc_1", 50)) == (50, 1)
    assert len(costs._expected) == event_costs.MAX_ACCOUNTS
