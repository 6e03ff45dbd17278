"""The limit of events over HTTP: an account that publishes more than its system delivers would build a backlog."""

import time
from collections import Counter
from collections.abc import Iterable

from api.problems import TooManyRequests
from streams.core.accounts.access import Caller
from streams.core.limits import MAX_ID_CHARACTERS
from streams.core.queues.rate import RateLimits

# An account may publish this many seconds' worth of events at once.
BURST_SECONDS = 10


class EventLimits:
    """Events of each account, in this process. An operator's key and the account's own keys count separately.

    So a customer cannot stop the platform's events for it, nor can the platform stop the customer's.
    """

    def __init__(self, max_events_per_second: int) -> None:
        self._limits = RateLimits(max_events_per_second * BURST_SECONDS, BURST_SECONDS)

    def take(self, caller: Caller, account_ids: Iterable[object]) -> None:
        """Count events for the accounts that they name.

        Raises `TooManyRequests` if one account is beyond its limit. Then none of the events counts.
        """
        now = time.monotonic()
        counts = Counter(item[:MAX_ID_CHARACTERS] if isinstance(item, str) else "" for item in account_ids)
        holder = caller.actor if caller.is_operator else caller.account_id
        buckets = {account_id: self._limits.bucket(f"{holder} {account_id}", now) for account_id in counts}
        for account_id, bucket in buckets.items():
            if not bucket.has_token:
                raise TooManyRequests(bucket.seconds_until_token, f"events of the account {account_id}")
        for account_id, count in counts.items():
            buckets[account_id].take(now, count)
