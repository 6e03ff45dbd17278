"""The queue of one endpoint: requests in flight, deliveries that wait, and a cap that adapts."""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from streams.core.delivery import Delivery, Target, Trigger

Waiter = TypeVar("Waiter", bound=Hashable)

START_CAP = 8
TEST_CAP = 2
# A request in flight for longer makes its endpoint suspect: it may be the first of many that hang.
SLOW_SECONDS = 1.0
# A delivery that the endpoint's own cap would delay by more does not wait in memory.
MAX_WAIT_SECONDS = 5.0
# A healthy endpoint must look too slow for this long: a busy machine makes any endpoint look slow for a moment.
STEADY_SECONDS = 0.5
_NEWEST_WEIGHT = 0.2


class EndpointClass(StrEnum):
    """What is known of an endpoint. All endpoints of a class share a part of the slots."""

    HEALTHY = "healthy"
    NEW = "new"
    SUSPECT = "suspect"
    TEST = "test"


class Priority(StrEnum):
    """What a slot is for: a first attempt, a later one, or a test."""

    FIRST = "first"
    RETRY = "retry"
    TEST = "test"


def priority_of(delivery: Delivery) -> Priority:
    if delivery.trigger is Trigger.TEST:
        return Priority.TEST
    return Priority.FIRST if delivery.is_first else Priority.RETRY


def queue_of(delivery: Delivery) -> str:
    """Each endpoint has a queue of its own, and so have a webhook's tests."""
    if delivery.trigger is Trigger.TEST:
        return f"{delivery.webhook_id}/test"
    return delivery.webhook_id if delivery.target is Target.PRIMARY else f"{delivery.webhook_id}/fallback"


@dataclass(slots=True)
class EndpointQueue(Generic[Waiter]):
    """State of one endpoint. `in_flight` maps each waiter that has a slot to its start (seconds) and priority.

    `seconds` is the moving average of response times. `moved_at` is when the last response came, or the first request
    of an idle endpoint left. `too_long_since` is since when the wait at the end of the queue is too long.
    """

    name: str
    ceiling: int
    cap: int
    endpoint_class: EndpointClass
    failing: bool = False
    seconds: float | None = None
    moved_at: float = 0.0
    too_long_since: float | None = None
    in_flight: dict[Waiter, tuple[float, Priority]] = field(default_factory=dict)
    retries_in_flight: int = 0
    slow: set[Waiter] = field(default_factory=set)
    first_attempts: deque[tuple[int, Waiter]] = field(default_factory=deque)
    retries: deque[tuple[int, Waiter]] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        return len(self.first_attempts) + len(self.retries)

    def has_room(self, priority: Priority) -> bool:
        """Whether the cap allows one more request; retries use at most half of it."""
        if priority is Priority.RETRY and self.retries_in_flight >= max(1, self.cap // 2):
            return False
        return len(self.in_flight) < self.cap

    @property
    def next_priority(self) -> Priority | None:
        """The priority of the waiter that goes next, oldest first; None when none may go."""
        if len(self.in_flight) >= self.cap:
            return None
        retry_may_go = self.retries and self.has_room(Priority.RETRY)
        if retry_may_go and not (self.first_attempts and self.first_attempts[0] < self.retries[0]):
            return Priority.RETRY
        return Priority.FIRST if self.first_attempts else None

    def first_ready(self) -> Iterator[Waiter]:
        """The oldest first attempt and the oldest retry that the cap allows."""
        if self.first_attempts and self.has_room(Priority.FIRST):
            yield self.first_attempts[0][1]
        if self.retries and self.has_room(Priority.RETRY):
            yield self.retries[0][1]

    def pop_next(self, priority: Priority) -> Waiter:
        return (self.retries if priority is Priority.RETRY else self.first_attempts).popleft()[1]

    def pop_newest(self) -> Waiter:
        """Remove the waiter that came last; there is one."""
        first, retries = self.first_attempts, self.retries
        return (retries if not first or (retries and retries[-1] > first[-1]) else first).pop()[1]

    def classify(self) -> EndpointClass:
        if self.endpoint_class is EndpointClass.TEST:
            return EndpointClass.TEST
        if self.failing or self.slow or (self.seconds or 0.0) > SLOW_SECONDS:
            return EndpointClass.SUSPECT
        return EndpointClass.NEW if self.seconds is None else EndpointClass.HEALTHY

    def delay(self, now: float) -> float:
        """Seconds that a delivery at the end of the queue would wait because of the endpoint's own cap and pace.

        A healthy endpoint can still grow to its ceiling; a suspect one is expected to stay as it is.
        """
        suspect = self.endpoint_class is EndpointClass.SUSPECT
        if not suspect and len(self.in_flight) < self.cap:
            return 0.0
        # While no response comes, one takes at least this long.
        stalled_seconds = now - self.moved_at if self.in_flight else 0.0
        at_once = max(1, len(self.in_flight)) if suspect else self.ceiling
        return self.waiting * max(self.seconds or 0.0, stalled_seconds) / at_once

    def is_too_long(self, now: float) -> bool:
        """Whether the wait is too long; asked repeatedly, because only what lasts counts."""
        if self.delay(now) <= MAX_WAIT_SECONDS:
            self.too_long_since = None
            return False
        if self.too_long_since is None:
            self.too_long_since = now
        return self.endpoint_class is EndpointClass.SUSPECT or now - self.too_long_since >= STEADY_SECONDS

    def record_result(self, is_delivered: bool, seconds: float) -> None:
        """Adapt to the result of an attempt: the cap grows by one, or is halved on failure."""
        self.failing = not is_delivered
        self.cap = min(self.cap + 1, self.ceiling) if is_delivered else max(1, self.cap // 2)
        average = seconds if self.seconds is None else self.seconds
        self.seconds = average + _NEWEST_WEIGHT * (seconds - average)
