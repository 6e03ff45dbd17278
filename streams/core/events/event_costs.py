"""The cost to `fan-out` of an event of an account, learned from the account's last events."""

from collections import OrderedDict

# Accounts that are remembered. For any other account, each webhook is expected to want each event.
MAX_ACCOUNTS = 10_000
# This many webhooks that do not want an event cost as much as one delivery: 0.5 µs each, and 0.2 ms.
WEBHOOKS_PER_DELIVERY = 400
# The weight of the last event if it became fewer deliveries than expected. If it became more, only it counts.
_SMOOTHING_FACTOR = 0.2


class EventCosts:
    """The number of deliveries that an event of each account is expected to become."""

    def __init__(self) -> None:
        self._expected: OrderedDict[str, float] = OrderedDict()

    def deliveries_per_event(self, account_id: str, webhooks: int) -> int:
        """The expected cost of an event of an account with this many webhooks, in deliveries, at least 1."""
        expected = min(self._expected.get(account_id, webhooks), webhooks)
        return max(1, round(expected + webhooks / WEBHOOKS_PER_DELIVERY))

    def note(self, account_id: str, deliveries: int) -> None:
        """Note how many deliveries an event became."""
        expected = self._expected.pop(account_id, 0.0)
        self._expected[account_id] = max(deliveries, expected + _SMOOTHING_FACTOR * (deliveries - expected))
        if len(self._expected) > MAX_ACCOUNTS:
            self._expected.popitem(last=False)
