"""The queue of one endpoint: requests in flight, deliveries that wait, and a cap that adapts."""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from streams.core.queues.rate import Rate

Waiter = TypeVar("Waiter", bound=Hashable)

START_CAP = 8
TEST_CAP = 2
# A request in flight for longer makes its endpoint suspect: it may be the first of many that hang.
SLOW_SECONDS = 1.0
# A delivery does not wait in memory if the endpoint's own cap or rate would delay it by more.
MAX_WAIT_SECONDS = 5.0
# A healthy endpoint must look too slow for this long: a busy machine makes any endpoint look slow for a moment.
MIN_OVERLOAD_SECONDS = 0.5
_SMOOTHING_FACTOR = 0.2


class EndpointClass(StrEnum):
    """The classes of endpoints, by what is known about them. All endpoints of a class share a part of the slots."""

    HEALTHY = "healthy"
    NEW = "new"
    SUSPECT = "suspect"
    TEST = "test"


class Priority(StrEnum):
    """What a slot is for: a first attempt, a later one, or a test."""

    FIRST = "first"
    RETRY = "retry"
    TEST = "test"


@dataclass(slots=True)
class EndpointQueue(Generic[Waiter]):
    """State of one endpoint. `in_flight` maps each waiter that has a slot to its start (seconds) and priority.

    `slow_waiters` are the ones in flight for more than a second, and `slow_slots` counts those that have moved to a
    slow slot.

    `mean_response_seconds` is the moving average of response times. `last_activity_at` is the time of the last
    response, or of the first request to an idle endpoint. `overloaded_since` is when the wait at the end of the queue
    became too long.

    With a `rate` the next request is allowed at `free_at`, in seconds of the clock of rates. Until then the queue
    `is_blocked`.
    """

    name: str
    account_id: str
    ceiling: int
    cap: int
    endpoint_class: EndpointClass
    is_failing: bool = False
    mean_response_seconds: float | None = None
    last_activity_at: float = 0.0
    overloaded_since: float | None = None
    in_flight: dict[Waiter, tuple[float, Priority]] = field(default_factory=dict)
    retries_in_flight: int = 0
    slow_waiters: set[Waiter] = field(default_factory=set)
    slow_slots: int = 0
    first_attempts: deque[tuple[int, Waiter]] = field(default_factory=deque)
    retries: deque[tuple[int, Waiter]] = field(default_factory=deque)
    rate: Rate | None = None
    used_until: float = 0.0
    is_blocked: bool = False

    @property
    def free_at(self) -> float:
        return self.rate.free_at(self.used_until) if self.rate else 0.0

    @property
    def waiting_count(self) -> int:
        return len(self.first_attempts) + len(self.retries)

    def has_capacity(self, priority: Priority) -> bool:
        """Whether the cap and the rate allow one more request; retries use at most half of the cap."""
        if self.is_blocked:
            return False
        if priority is Priority.RETRY and self.retries_in_flight >= max(1, self.cap // 2):
            return False
        return len(self.in_flight) < self.cap

    @property
    def next_priority(self) -> Priority | None:
        """The priority of the waiter that goes next, oldest first; None when none may go."""
        if len(self.in_flight) >= self.cap or self.is_blocked:
            return None
        can_retry = self.retries and self.has_capacity(Priority.RETRY)
        if can_retry and not (self.first_attempts and self.first_attempts[0] < self.retries[0]):
            return Priority.RETRY
        return Priority.FIRST if self.first_attempts else None

    def ready_waiters(self) -> Iterator[Waiter]:
        """The oldest first attempt and the oldest retry that the cap allows."""
        if self.first_attempts and self.has_capacity(Priority.FIRST):
            yield self.first_attempts[0][1]
        if self.retries and self.has_capacity(Priority.RETRY):
            yield self.retries[0][1]

    def pop_next(self, priority: Priority) -> Waiter:
        return (self.retries if priority is Priority.RETRY else self.first_attempts).popleft()[1]

    def pop_newest(self) -> Waiter:
        """Remove the newest waiter; there must be one."""
        first, retries = self.first_attempts, self.retries
        return (retries if not first or (retries and retries[-1] > first[-1]) else first).pop()[1]

    def remove(self, waiter: Waiter) -> bool:
        """Remove a waiter; false if it does not wait."""
        for waiters in (self.first_attempts, self.retries):
            for entry in waiters:
                if entry[1] is waiter:
                    waiters.remove(entry)
                    return True
        return False

    def classify(self) -> EndpointClass:
        if self.endpoint_class is EndpointClass.TEST:
            return EndpointClass.TEST
        if self.is_failing or self.slow_waiters or (self.mean_response_seconds or 0.0) > SLOW_SECONDS:
            return EndpointClass.SUSPECT
        return EndpointClass.NEW if self.mean_response_seconds is None else EndpointClass.HEALTHY

    def expected_delay(self, now: float) -> float:
        """Seconds that a delivery at the end of the queue would wait because of the endpoint's own cap and pace.

        A healthy endpoint can still grow to its ceiling; a suspect one is expected to stay as it is.
        """
        is_suspect = self.endpoint_class is EndpointClass.SUSPECT
        if not is_suspect and len(self.in_flight) < self.cap:
            return 0.0
        # While no response comes, it takes at least this long.
        stalled_seconds = now - self.last_activity_at if self.in_flight else 0.0
        concurrency = max(1, len(self.in_flight)) if is_suspect else self.ceiling
        return self.waiting_count * max(self.mean_response_seconds or 0.0, stalled_seconds) / concurrency

    def has_rate_overload(self, now: float) -> bool:
        """Whether the rate delays the newest waiter for too long; `now` is in seconds on the rate clock."""
        if self.rate is None or not self.waiting_count:
            return False
        delay = max(self.used_until, now) - now + (self.waiting_count - self.rate.burst) / self.rate.per_second
        return delay > MAX_WAIT_SECONDS

    def has_lasting_overload(self, now: float, is_kept_back: bool) -> bool:
        """Whether the wait is too long; call it repeatedly, because only a lasting overload counts.

        `is_kept_back` means that its account gets no slot until its slow requests end.
        """
        if not is_kept_back and self.expected_delay(now) <= MAX_WAIT_SECONDS:
            self.overloaded_since = None
            return False
        if self.overloaded_since is None:
            self.overloaded_since = now
        return self.endpoint_class is EndpointClass.SUSPECT or now - self.overloaded_since >= MIN_OVERLOAD_SECONDS

    def record_result(self, is_delivered: bool, seconds: float) -> None:
        """Adapt to the result of an attempt: the cap grows by one, or is halved on failure."""
        self.is_failing = not is_delivered
        self.cap = min(self.cap + 1, self.ceiling) if is_delivered else max(1, self.cap // 2)
        average = seconds if self.mean_response_seconds is None else self.mean_response_seconds
        self.mean_response_seconds = average + _SMOOTHING_FACTOR * (seconds - average)
