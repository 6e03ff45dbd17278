"""Check what each sentinel of `subscriptions` says: the incarnation of the topic, the clock and the encryption keys."""

from collections.abc import Callable
from datetime import datetime

from streams.adapters.kafka.broker_clock import BrokerClock
from streams.adapters.kafka.end_offset import SubscriptionsReaderFailed
from streams.core.encryption import WRONG_KEYS_MESSAGE
from streams.core.subscriptions_table import Sentinel
from streams.outage import ENCRYPTION_KEYS, Outages
from streams.topics import SUBSCRIPTIONS


class SentinelCheck:
    """The last sentinel's verdict. `can_decrypt_check` says whether a key of this process decrypts the check text."""

    def __init__(self, clock: BrokerClock, can_decrypt_check: Callable[[str], bool], outages: Outages) -> None:
        self._clock = clock
        self._can_decrypt_check = can_decrypt_check
        self._keys = outages[ENCRYPTION_KEYS]
        self._incarnation = ""
        self.is_at_end = False

    @property
    def is_trusted(self) -> bool:
        """Whether `problems` is empty; cheaper."""
        return self._clock.is_trusted and self not in self._keys

    @property
    def skew_seconds(self) -> float:
        """This machine's clock minus the broker's, at the last sentinel."""
        return self._clock.skew_seconds

    def problems(self) -> list[str]:
        """Why a stage must not send anything at the moment."""
        return [*([WRONG_KEYS_MESSAGE] if self in self._keys else []), *self._clock.problems()]

    def reach_end(self) -> None:
        """Note that every record of the topic is read. Later sentinels are new."""
        if not self.is_at_end:
            self._clock.reach_end()
        self.is_at_end = True

    def compare(self, sentinel: Sentinel, appended_at: datetime) -> None:
        """Take a sentinel. Raises `SubscriptionsReaderFailed` when a new one has another incarnation."""
        if self.is_at_end and self._incarnation not in ("", sentinel.incarnation):
            raise SubscriptionsReaderFailed(f"{SUBSCRIPTIONS} has another incarnation: the topic was recreated")
        self._incarnation = sentinel.incarnation
        self._clock.compare(appended_at, is_at_end=self.is_at_end)
        if sentinel.check is not None and not self._can_decrypt_check(sentinel.check):
            self._keys.begin(self, WRONG_KEYS_MESSAGE)
        else:
            self._keys.end(self)
