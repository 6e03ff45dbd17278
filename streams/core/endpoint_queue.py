"""A line: those who want to send to one endpoint, what is known of it, and how much it is given at once."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter", bound=Hashable)

START_CAP = 8
TEST_CAP = 2
# A request older than this makes its line slow: it may be the first of many that hang.
SLOW_SECONDS = 1.0
# What a line's own cap delays by more than this does not wait in memory.
PATIENCE_SECONDS = 5.0
# A healthy line has to look like that for so long: a machine that is busy elsewhere makes any endpoint slow at times.
STEADY_SECONDS = 0.5
_NEWEST_WEIGHT = 0.2


class EndpointClass(StrEnum):
    """What is known of a line; the lines of one repute together have a share of all slots."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    SUSPECT = "suspect"
    TEST = "test"


class Priority(StrEnum):
    """Why a slot is wanted: an event's first attempt, one of those that come after, or a test."""

    FRESH = "fresh"
    AGAIN = "again"
    TEST = "test"


@dataclass(slots=True)
class EndpointQueue(Generic[Waiter]):
    """Those who want to send to one endpoint: `flying` hold a slot since the time given, the others wait for one.

    `seconds` is how long answers take of late; `moved_at` when the last one came back, or when the first one left;
    `too_long_since` since when the last of those who wait would wait too long.
    """

    name: str
    ceiling: int
    cap: int
    repute: EndpointClass
    failing: bool = False
    seconds: float | None = None
    moved_at: float = 0.0
    too_long_since: float | None = None
    flying: dict[Waiter, tuple[float, Priority]] = field(default_factory=dict)
    again_flying: int = 0
    slow: set[Waiter] = field(default_factory=set)
    fresh: deque[tuple[int, Waiter]] = field(default_factory=deque)
    again: deque[tuple[int, Waiter]] = field(default_factory=deque)

    @property
    def length(self) -> int:
        return len(self.fresh) + len(self.again)

    def has_room(self, errand: Priority) -> bool:
        """Whether the cap lets one more go; retries hold at most half of it."""
        if errand is Priority.AGAIN and self.again_flying >= max(1, self.cap // 2):
            return False
        return len(self.flying) < self.cap

    @property
    def next_errand(self) -> Priority | None:
        """Who goes next: first come, first served; None when nobody may."""
        if len(self.flying) >= self.cap:
            return None
        again = self.again and self.has_room(Priority.AGAIN)
        if again and not (self.fresh and self.fresh[0] < self.again[0]):
            return Priority.AGAIN
        return Priority.FRESH if self.fresh else None

    def judged(self) -> EndpointClass:
        if self.repute is EndpointClass.TEST:
            return EndpointClass.TEST
        if self.failing or self.slow or (self.seconds or 0.0) > SLOW_SECONDS:
            return EndpointClass.SUSPECT
        return EndpointClass.UNPROVEN if self.seconds is None else EndpointClass.PROVEN

    def delay(self, now: float) -> float:
        """Seconds that the last in the line would wait at the pace observed, as far as the line itself is the reason.

        A healthy line may still grow to its ceiling; a suspect one is taken at what it has.
        """
        suspect = self.repute is EndpointClass.SUSPECT
        if not suspect and len(self.flying) < self.cap:
            return 0.0
        # While nothing comes back, an answer takes at least as long as that.
        stalled = now - self.moved_at if self.flying else 0.0
        at_once = max(1, len(self.flying)) if suspect else self.ceiling
        return self.length * max(self.seconds or 0.0, stalled) / at_once

    def is_too_long(self, now: float) -> bool:
        """Whether the last one had better wait elsewhere; asked now and then, for only what lasts counts."""
        if self.delay(now) <= PATIENCE_SECONDS:
            self.too_long_since = None
            return False
        if self.too_long_since is None:
            self.too_long_since = now
        return self.repute is EndpointClass.SUSPECT or now - self.too_long_since >= STEADY_SECONDS

    def learn(self, delivered: bool, seconds: float) -> None:
        """An answer came, or none in time: the cap grows by one, or is halved."""
        self.failing = not delivered
        self.cap = min(self.cap + 1, self.ceiling) if delivered else max(1, self.cap // 2)
        known = seconds if self.seconds is None else self.seconds
        self.seconds = known + _NEWEST_WEIGHT * (seconds - known)
