"""Slots for requests in flight, shared fairly between endpoints."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Set
from heapq import heappop, heappush
from typing import Generic

from streams.core.deliveries.delivery import HoldReason
from streams.core.queues.endpoint_queue import (
    SLOW_SECONDS,
    START_CAP,
    TEST_CAP,
    EndpointClass,
    EndpointQueue,
    Priority,
    Waiter,
)
from streams.core.queues.rate import Rate
from streams.core.queues.ready_queues import ReadyQueues
from streams.core.queues.slow_slots import SlowSlots

MAX_IDLE_QUEUES = 10_000
# Deliveries in memory that wait for the rates of their endpoints: a quarter of what `deliver` handles at once.
MAX_WAITING_FOR_RATES = 1000
# Slow slots for each slot: twice as many, so an account may have as many slow requests as there are slots.
SLOW_SLOTS = 2


class Slots(Generic[Waiter]):
    """Each endpoint has a queue with a cap that adapts. Waiting accounts take turns, and so do each account's queues.

    A state machine without I/O or clock (`now` is in seconds). `try_acquire` takes a slot at once, `enqueue` adds a
    waiter, `grant` returns the waiters that may go now, `release` frees a slot, and `shed` removes the waiters that
    would wait too long. Suspect endpoints use at most a quarter of all slots together, new ones at most half. Slots
    that suspect ones keep beyond their quarter count for the new ones. An account without any request may take one
    beyond that. The last free slot is reserved for tests.

    A request of more than a second moves to the slow slots. Accounts with their full share of these and mostly slow
    requests use at most a quarter of all slots together: more requests of theirs would soon be slow too.

    An endpoint may have a rate, in seconds of `rate_clock`, which a busy process does not slow down as it does `now`.
    The default is `now`.
    """

    def __init__(
        self,
        total: int,
        rate_clock: Callable[[], float] | None = None,
        *,
        max_idle_queues: int = MAX_IDLE_QUEUES,
        max_waiting_for_rates: int = MAX_WAITING_FOR_RATES,
    ) -> None:
        self._max_idle_queues = max_idle_queues
        self._max_waiting_for_rates = max_waiting_for_rates
        self._free = total
        self._slow: SlowSlots[Waiter] = SlowSlots(SLOW_SLOTS * total)
        self._now = 0.0
        self._rate_clock = rate_clock or (lambda: self._now)
        # When the rates of endpoints allow the next request, and their queues.
        self._blocked: list[tuple[float, str]] = []
        # The waiters of endpoints with a rate, by account.
        self._waiting_for_rates: dict[str, int] = {}
        self._forgotten_at = 0.0
        self._reserved_count = 1 if total > 1 else 0
        self._quarter = max(1, total // 4)
        self._class_limits = {
            EndpointClass.HEALTHY: total,
            EndpointClass.NEW: max(1, total // 2),
            EndpointClass.SUSPECT: self._quarter,
            EndpointClass.TEST: total,
        }
        self._in_use = dict.fromkeys(EndpointClass, 0)
        self._queues: dict[str, EndpointQueue[Waiter]] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        # Requests in flight by account, slow ones too.
        self._account_requests: dict[str, int] = {}
        self._ready: dict[EndpointClass, ReadyQueues[Waiter]] = {
            endpoint_class: ReadyQueues(self._account_requests) for endpoint_class in EndpointClass
        }
        # The queues of each class by account. They are empty when no request waits for a slot.
        self._waiting = [queues.by_account for queues in self._ready.values()]
        self._rotation = deque(EndpointClass)
        self._by_age: deque[tuple[float, str, Waiter]] = deque()
        self._enqueued_count = 0

    @property
    def free_count(self) -> int:
        return self._free

    def in_use(self, endpoint_class: EndpointClass) -> int:
        """Slots in use by all endpoints of a class."""
        return self._in_use[endpoint_class]

    @property
    def slow_count(self) -> int:
        """Slow slots in use."""
        return self._slow.in_use

    def waiting_count(self) -> int:
        """The number of waiters in all queues."""
        return sum(queue.waiting_count for queue in self._queues.values() if queue.waiting_count)

    @property
    def seconds_until_unblocked(self) -> float | None:
        """The seconds until a rate allows a request that waits for it; None if no request waits for a rate."""
        if not self._waiting_for_rates or not self._blocked:
            return None
        return max(0.0, self._blocked[0][0] - self._rate_clock())

    def starved_waiters(self) -> Iterator[Waiter]:
        """The oldest waiters of each queue that go as soon as this process has a free slot.

        A waiter that waits for its endpoint's cap, or for the share of its class, is not among them: more processes
        would not help. Neither is a waiter of a suspect endpoint or a slow account, which delay their own deliveries.
        """
        kept_back = self._kept_back()
        for endpoint_class, ready_queues in self._ready.items():
            has_share = self._is_below_class_limit(endpoint_class)
            if endpoint_class is not EndpointClass.SUSPECT and has_share and not self._is_any_free(endpoint_class):
                for queue in ready_queues:
                    if queue.account_id not in kept_back:
                        yield from queue.ready_waiters()

    def try_acquire(
        self,
        name: str,
        waiter: Waiter,
        now: float,
        priority: Priority = Priority.FIRST,
        ceiling: int = 32,
        account_id: str = "",
        rate: Rate | None = None,
        rate_known_since: float = 0.0,
    ) -> bool:
        """Take a slot at once, as `enqueue` and `grant` would give it. False when another waits, or no slot is free.

        Another process may have used the endpoint's rate until `rate_known_since`, on the rate clock.
        """
        self._mark_slow(now)
        queue = self._queue(name, priority, ceiling, account_id)
        if rate is not None or queue.rate is not None:
            self._set_rate(queue, rate, rate_known_since)
        if self._blocked:
            self._unblock()
        has_waiters = any(self._waiting) or queue.waiting_count
        if has_waiters or not queue.has_capacity(priority) or not self._has_slot(queue.endpoint_class, account_id):
            return False
        if account_id in self._slow.by_account and account_id in self._kept_back():
            return False
        self._idle.pop(name, None)
        self._take_slot(queue, waiter, priority, now)
        return True

    def enqueue(
        self,
        name: str,
        waiter: Waiter,
        priority: Priority = Priority.FIRST,
        ceiling: int = 32,
        account_id: str = "",
    ) -> None:
        """Add a waiter to an endpoint's queue; tests need a queue of their own. `ceiling` limits the queue's cap.

        The queue keeps the rate of the last `try_acquire`.
        """
        queue = self._queue(name, priority, ceiling, account_id)
        self._enqueued_count += 1
        if queue.rate is not None:
            self._count_waiting_for_rate(queue, 1)
        (queue.retries if priority is Priority.RETRY else queue.first_attempts).append((self._enqueued_count, waiter))
        self._idle.pop(name, None)
        self._make_ready(queue)

    def grant(self, now: float) -> list[tuple[str, Waiter]]:
        """The waiters that may go now, in turn, each after its queue's name; each has a slot until it is released."""
        self._mark_slow(now)
        if self._blocked:
            self._unblock()
        grants: list[tuple[str, Waiter]] = []
        while any(self._waiting) and (waiter := self._grant_one(now)) is not None:
            grants.append(waiter)
        return grants

    def release(self, name: str, waiter: Waiter, now: float, is_delivered: bool | None) -> None:
        """Free a slot; `is_delivered` says how the attempt ended, and is None if no attempt was made."""
        queue = self._queues[name]
        since, priority = queue.in_flight.pop(waiter)
        queue.retries_in_flight -= priority is Priority.RETRY
        queue.slow_waiters.discard(waiter)
        queue.last_activity_at = now
        if self._slow.release(waiter):
            queue.slow_slots -= 1
            if (next_queue := self._slow.take_next()) is not None:
                self._free_slot(next_queue)
        else:
            self._free += 1
            self._in_use[queue.endpoint_class] -= 1
        self._count_request(queue.account_id, -1)
        if is_delivered is not None:
            queue.record_result(is_delivered, now - since)
        elif queue.rate is not None:
            # Usually no request left, so its part of the rate is free again.
            queue.used_until -= 1 / queue.rate.per_second
            queue.is_blocked = queue.free_at > self._rate_clock()
        self._reclassify(queue)
        self._make_ready(queue)
        self._forget_idle(queue)

    def move_to_slow(self, name: str, waiter: Waiter) -> None:
        """Move a request to a slow slot, if its account may have one, without waiting for its second to pass."""
        queue = self._queues[name]
        if self._slow.take(queue, waiter):
            self._free_slot(queue)

    def shed(self, now: float, names: Iterable[str] | None = None) -> list[tuple[Waiter, HoldReason]]:
        """Remove the waiters that would wait too long because of their endpoint or its rate, newest first."""
        self._mark_slow(now)
        queues = list(self._queues.values()) if names is None else [self._queues[name] for name in names]
        removed_waiters: list[tuple[Waiter, HoldReason]] = []
        kept_back = self._kept_back()
        for queue in queues:
            is_kept_back = queue.account_id in kept_back
            while queue.waiting_count and (reason := self._overload(queue, now, is_kept_back)) is not None:
                removed_waiters.append((queue.pop_newest(), reason))
                if queue.rate is not None:
                    self._count_waiting_for_rate(queue, -1)
            if not queue.waiting_count:
                self._ready[queue.endpoint_class].discard(queue)
                self._forget_idle(queue)
        return removed_waiters

    def remove(self, name: str, waiter: Waiter) -> None:
        """Remove a waiter that was abandoned."""
        queue = self._queues[name]
        if queue.remove(waiter):
            if queue.rate is not None:
                self._count_waiting_for_rate(queue, -1)
            if not queue.waiting_count:
                self._ready[queue.endpoint_class].discard(queue)
                self._forget_idle(queue)

    def _overload(self, queue: EndpointQueue[Waiter], now: float, is_kept_back: bool) -> HoldReason | None:
        """Why the newest waiter of a queue would wait too long; None if it would not."""
        if queue.rate is not None and (
            # Accounts share the memory: one that fills it must not take another's part.
            self._waiting_for_rates[queue.account_id]
            > max(1, self._max_waiting_for_rates // len(self._waiting_for_rates))
            or queue.has_rate_overload(self._rate_clock())
        ):
            return HoldReason.RATE
        if queue.endpoint_class is not EndpointClass.TEST and queue.has_lasting_overload(now, is_kept_back):
            return HoldReason.BUSY
        return None

    def _set_rate(self, queue: EndpointQueue[Waiter], rate: Rate | None, known_since: float) -> None:
        """Set a queue's rate. Its use before `known_since`, or before the last change, is unknown."""
        now = self._rate_clock()
        if rate != queue.rate:
            if (rate is None) is not (queue.rate is None):
                self._count_waiting_for_rate(queue, queue.waiting_count if rate else -queue.waiting_count)
            # A part of the old rate may be used up: the new one begins without a burst.
            known_since = known_since if queue.rate is None else now
            queue.rate, queue.used_until, queue.is_blocked = rate, 0.0, False
        if rate is not None:
            is_new = not queue.used_until
            earliest = rate.used_at_start(max(known_since, self._forgotten_at) if is_new else known_since)
            if queue.used_until < earliest:
                queue.used_until, queue.is_blocked = earliest, False
                self._block(queue, now)
        self._make_ready(queue)

    def _count_waiting_for_rate(self, queue: EndpointQueue[Waiter], change: int) -> None:
        if count := self._waiting_for_rates.get(queue.account_id, 0) + change:
            self._waiting_for_rates[queue.account_id] = count
        else:
            self._waiting_for_rates.pop(queue.account_id, None)

    def _block(self, queue: EndpointQueue[Waiter], now: float) -> None:
        """Block a queue until its rate allows the next request."""
        if (free_at := queue.free_at) > now:
            queue.is_blocked = True
            heappush(self._blocked, (free_at, queue.name))

    def _unblock(self) -> None:
        now = self._rate_clock()
        while self._blocked and self._blocked[0][0] <= now:
            _, name = heappop(self._blocked)
            queue = self._queues.get(name)
            # Its rate may have changed, or it may be a new queue of the same name.
            if queue is not None and queue.is_blocked and queue.free_at <= now:
                queue.is_blocked = False
                self._make_ready(queue)

    def _queue(self, name: str, priority: Priority, ceiling: int, account_id: str) -> EndpointQueue[Waiter]:
        queue = self._queues.get(name)
        if queue is None:
            is_test = priority is Priority.TEST
            cap, endpoint_class = (TEST_CAP, EndpointClass.TEST) if is_test else (START_CAP, EndpointClass.NEW)
            queue = self._queues[name] = EndpointQueue[Waiter](name, account_id, ceiling, cap, endpoint_class)
        queue.ceiling = ceiling
        queue.cap = min(queue.cap, ceiling)
        return queue

    def _has_slot(self, endpoint_class: EndpointClass, account_id: str) -> bool:
        is_first = account_id not in self._account_requests
        return self._is_any_free(endpoint_class) and (is_first or self._is_below_class_limit(endpoint_class))

    def _kept_back(self) -> Set[str]:
        """The accounts that get no slot now, because they have their share of slow slots and of the others."""
        if not self._slow.by_account:
            return frozenset()
        accounts = self._slow.accounts_at_slow_limit(self._account_requests)
        slot_count = sum(self._account_requests[account] - self._slow.by_account[account] for account in accounts)
        return accounts if slot_count >= self._quarter else frozenset()

    def _is_any_free(self, endpoint_class: EndpointClass) -> bool:
        return self._free > (0 if endpoint_class is EndpointClass.TEST else self._reserved_count)

    def _is_below_class_limit(self, endpoint_class: EndpointClass) -> bool:
        limit = self._class_limits[endpoint_class]
        if endpoint_class is EndpointClass.NEW:
            # New endpoints that turned suspect keep their slots: wave after wave would take every slot.
            suspect = EndpointClass.SUSPECT
            limit -= max(0, self._in_use[suspect] - self._class_limits[suspect])
        return self._in_use[endpoint_class] < limit

    def _grant_one(self, now: float) -> tuple[str, Waiter] | None:
        kept_back = self._kept_back()
        for _ in range(len(self._rotation)):
            endpoint_class = self._rotation[0]
            self._rotation.rotate(-1)
            queues = self._ready[endpoint_class]
            while (account_id := queues.next_account(kept_back)) is not None:
                if not self._has_slot(endpoint_class, account_id):
                    break
                queue = queues.pop(account_id)
                # Its cap may have been halved since it became ready.
                if (priority := queue.next_priority) is not None:
                    waiter = queue.pop_next(priority)
                    if queue.rate is not None:
                        self._count_waiting_for_rate(queue, -1)
                    self._take_slot(queue, waiter, priority, now)
                    self._make_ready(queue)
                    return queue.name, waiter
        return None

    def _take_slot(self, queue: EndpointQueue[Waiter], waiter: Waiter, priority: Priority, now: float) -> None:
        if not queue.in_flight:
            queue.last_activity_at = now
        queue.in_flight[waiter] = now, priority
        queue.retries_in_flight += priority is Priority.RETRY
        self._free -= 1
        self._in_use[queue.endpoint_class] += 1
        self._count_request(queue.account_id, 1)
        self._by_age.append((now, queue.name, waiter))
        if queue.rate is not None:
            rate_now = self._rate_clock()
            queue.used_until = queue.rate.use(queue.used_until, rate_now)
            self._block(queue, rate_now)

    def _mark_slow(self, now: float) -> None:
        self._now = now
        while self._by_age and self._by_age[0][0] < now - SLOW_SECONDS:
            since, name, waiter = self._by_age.popleft()
            queue = self._queues.get(name)
            if queue and queue.in_flight.get(waiter, (None,))[0] == since:
                queue.slow_waiters.add(waiter)
                if self._slow.take(queue, waiter):
                    self._free_slot(queue)
                self._reclassify(queue)

    def _free_slot(self, queue: EndpointQueue[Waiter]) -> None:
        """Free the slot of a request that has moved to a slow one."""
        queue.slow_slots += 1
        self._free += 1
        self._in_use[queue.endpoint_class] -= 1

    def _reclassify(self, queue: EndpointQueue[Waiter]) -> None:
        """Move an endpoint to the class that fits it now, with its slots and its turn."""
        old_class, new_class = queue.endpoint_class, queue.classify()
        if old_class is new_class:
            return
        queue.endpoint_class = new_class
        in_use = len(queue.in_flight) - queue.slow_slots
        self._in_use[old_class] -= in_use
        self._in_use[new_class] += in_use
        if self._ready[old_class].discard(queue):
            self._ready[new_class].add(queue)

    def _make_ready(self, queue: EndpointQueue[Waiter]) -> None:
        if queue.next_priority is not None:
            self._ready[queue.endpoint_class].add(queue)

    def _count_request(self, account_id: str, change: int) -> None:
        # An account's place in the turns depends on its number of requests.
        left = [queues for queues in self._ready.values() if queues.leave(account_id)] if any(self._waiting) else ()
        if in_flight := self._account_requests.get(account_id, 0) + change:
            self._account_requests[account_id] = in_flight
        else:
            del self._account_requests[account_id]
        for queues in left:
            queues.enter(account_id)

    def _forget_idle(self, queue: EndpointQueue[Waiter]) -> None:
        """Keep the state of the newest idle endpoints; a forgotten one starts as new."""
        if queue.in_flight or queue.waiting_count:
            return
        self._idle[queue.name] = None
        if len(self._idle) > self._max_idle_queues:
            oldest_name, _ = self._idle.popitem(last=False)
            if self._queues[oldest_name].is_blocked:
                # It may not send yet, but a new queue of this name could.
                self._idle[oldest_name] = None
                oldest_name, _ = self._idle.popitem(last=False)
            del self._queues[oldest_name]
            # The use of its rate is forgotten too.
            self._forgotten_at = self._rate_clock()
