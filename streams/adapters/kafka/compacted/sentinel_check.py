"""Check the sentinels of a compacted topic: the incarnation, and for `subscriptions` also the clock and the keys."""

from collections.abc import Callable
from datetime import datetime

from streams.adapters.kafka.compacted.broker_clock import BrokerClock
from streams.adapters.kafka.compacted.end_offset import TopicReaderFailed
from streams.core.encryption import WRONG_KEYS_MESSAGE
from streams.core.records.compacted_table import Sentinel
from streams.outage import ENCRYPTION_KEYS, Outages


class SentinelCheck:
    """The last sentinel's verdict. `is_valid_check_text` says whether a key of this process decrypts the check text.

    If a topic's sentinel judges the `clock`, it must be repeated regularly.
    """

    def __init__(
        self, topic: str, is_valid_check_text: Callable[[str], bool], outages: Outages, clock: BrokerClock | None = None
    ) -> None:
        self._topic = topic
        self._clock = clock
        self._can_decrypt_check = is_valid_check_text
        self._keys = outages[ENCRYPTION_KEYS]
        self._incarnation = ""
        self.is_at_end = False

    @property
    def is_trusted(self) -> bool:
        """Whether `problems` is empty; this is cheaper."""
        return (self._clock is None or self._clock.is_trusted) and self not in self._keys

    def problems(self) -> list[str]:
        """Why a stage must not send anything at the moment."""
        clock_problems = self._clock.problems() if self._clock else ()
        return [*([WRONG_KEYS_MESSAGE] if self in self._keys else []), *clock_problems]

    def on_end_reached(self) -> None:
        """Note that every record of the topic is read. Later sentinels are new."""
        if not self.is_at_end and self._clock:
            self._clock.on_end_reached()
        self.is_at_end = True

    def compare(self, sentinel: Sentinel, appended_at: datetime) -> None:
        """Take a sentinel. Raises `TopicReaderFailed` if a new sentinel has another incarnation."""
        if self.is_at_end and self._incarnation not in ("", sentinel.incarnation):
            raise TopicReaderFailed(f"{self._topic} has another incarnation: the topic was recreated")
        self._incarnation = sentinel.incarnation
        if self._clock:
            self._clock.compare(appended_at, is_at_end=self.is_at_end)
        if sentinel.check is not None and not self._can_decrypt_check(sentinel.check):
            self._keys.begin(self, WRONG_KEYS_MESSAGE)
        else:
            self._keys.end(self)
