"""Let coroutines wait for a slot, and refuse any that would wait too long."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from streams.core.deliveries.delivery import HoldReason
from streams.core.errors import RecordAbandoned, ScormWebhooksError
from streams.core.queues.endpoint_queue import EndpointClass
from streams.core.queues.slot_request import SlotRequest
from streams.core.queues.slots import Slots
from streams.ports.runtime import Clock, Telemetry

MAINTENANCE_INTERVAL_SECONDS = 0.25


class EndpointBusy(ScormWebhooksError):
    """The endpoint, or its rate, is too slow for the deliveries that wait for it: hold this one."""

    def __init__(self, reason: HoldReason) -> None:
        super().__init__(f"too many deliveries wait for the endpoint: {reason}")
        self.reason = reason


class SlotLimiter:
    """Limits requests in flight, per endpoint and in total. `now` is the loop's time in seconds unless given."""

    def __init__(self, slots: Slots["AcquiredSlot"], now: Callable[[], float] | None = None) -> None:
        self._slots = slots
        self._now = now or asyncio.get_running_loop().time
        self._waiting_slots: set[AcquiredSlot] = set()
        self._is_closed = False
        # Grants slots to requests that are waiting for an endpoint's rate limit.
        self._rate_timer: asyncio.TimerHandle | None = None

    async def acquire(self, request: SlotRequest, waiting: set[asyncio.Future[None]] | None = None) -> "AcquiredSlot":
        """Wait for a slot, to be used in a `with`. Accounts take turns.

        The caller may fail the future that it finds in `waiting` during the wait. Raises that error, `EndpointBusy`
        when the wait would be too long, and `RecordAbandoned` when the limiter closes first.
        """
        if self._is_closed:
            raise RecordAbandoned
        slot = AcquiredSlot(self, request)
        queue, priority, ceiling, _, account_id, rate, rate_known_since = request
        if not self._slots.try_acquire(queue, slot, self._now(), priority, ceiling, account_id, rate, rate_known_since):
            await self._wait(slot, request, set() if waiting is None else waiting)
        return slot

    async def _wait(self, slot: "AcquiredSlot", request: SlotRequest, waiting: set[asyncio.Future[None]]) -> None:
        slot.has_waited = True
        slot.granted = asyncio.get_running_loop().create_future()
        self._waiting_slots.add(slot)
        waiting.add(slot.granted)
        self._slots.enqueue(slot.queue, slot, request.priority, request.ceiling, request.account_id)
        self._grant()
        if not slot.granted.done():
            self._shed([slot.queue])
        try:
            await slot.granted
        except asyncio.CancelledError:
            if slot.granted.done() and not slot.granted.cancelled() and slot.granted.exception() is None:
                self.release(slot)
            raise
        finally:
            waiting.discard(slot.granted)
            if slot in self._waiting_slots:
                # It was abandoned, neither granted nor shed.
                self._waiting_slots.discard(slot)
                self._slots.remove(slot.queue, slot)

    def release(self, slot: "AcquiredSlot") -> None:
        """Free a slot."""
        self._slots.release(slot.queue, slot, self._now(), slot.is_delivered)
        if self._waiting_slots:
            self._grant()

    def move_to_slow(self, slot: "AcquiredSlot") -> None:
        """Give this slot to another request, and continue in a slow one."""
        self._slots.move_to_slow(slot.queue, slot)
        if self._waiting_slots:
            self._grant()

    def overdue_seconds(self, now: datetime) -> float:
        """How late the oldest delivery is that waits for a free slot of this process. 0 if none waits."""
        due_times = [slot.due_at for slot in self._slots.starved_waiters() if not slot.granted.done()]
        return max(0.0, (now - min(due_times)).total_seconds()) if due_times else 0.0

    async def run(self, telemetry: Telemetry, clock: Clock) -> None:
        """Maintain the queues and their metrics until cancelled."""
        while True:
            await asyncio.sleep(MAINTENANCE_INTERVAL_SECONDS)
            self.maintain()
            for endpoint_class in EndpointClass:
                telemetry.gauge("slots_in_use", self._slots.in_use(endpoint_class), endpoint_class=endpoint_class)
            telemetry.gauge("slow_slots_in_use", self._slots.slow_count)
            telemetry.gauge("slots_waiting", len(self._waiting_slots))
            telemetry.gauge("deliver_overdue_seconds", self.overdue_seconds(clock.now()))

    @property
    def is_needed(self) -> bool:
        """Whether a request is in flight, or waits for its endpoint."""
        in_use = any(self._slots.in_use(endpoint_class) for endpoint_class in EndpointClass)
        return bool(self._waiting_slots) or in_use or bool(self._slots.slow_count)

    def maintain(self) -> None:
        """Grant the slots that time alone made free, and shed the waiters that would wait too long."""
        self._grant()
        self._shed(None)

    def close(self) -> None:
        """Abandon every waiter: its record stays uncommitted and is sent after the restart."""
        self._is_closed = True
        if self._rate_timer is not None:
            self._rate_timer.cancel()
        for slot in self._waiting_slots:
            if not slot.granted.done():
                slot.granted.set_exception(RecordAbandoned())
        self._waiting_slots.clear()

    def _grant(self) -> None:
        if self._is_closed:
            return
        now, has_cancelled = self._now(), True
        while has_cancelled:
            has_cancelled = False
            for queue, slot in self._slots.grant(now):
                self._waiting_slots.discard(slot)
                if slot.granted.done():
                    self._slots.release(queue, slot, now, None)
                    has_cancelled = True
                else:
                    slot.granted.set_result(None)
        self._wait_for_rates()

    def _wait_for_rates(self) -> None:
        """Grant again when the next rate allows it."""
        if self._rate_timer is not None:
            self._rate_timer.cancel()
            self._rate_timer = None
        if (seconds := self._slots.seconds_until_unblocked) is not None:
            self._rate_timer = asyncio.get_running_loop().call_later(seconds, self._grant)

    def _shed(self, queues: list[str] | None) -> None:
        if self._is_closed:
            return
        for slot, reason in self._slots.shed(self._now(), queues):
            self._waiting_slots.discard(slot)
            if not slot.granted.done():
                slot.granted.set_exception(EndpointBusy(reason))


class AcquiredSlot:
    """A slot of an endpoint. Set `is_delivered` to how the attempt ended, or leave it None if none was made."""

    __slots__ = ("_limiter", "due_at", "granted", "has_waited", "is_delivered", "queue")

    granted: asyncio.Future[None]

    def __init__(self, limiter: SlotLimiter, request: SlotRequest) -> None:
        self._limiter = limiter
        self.queue = request.queue
        self.due_at = request.due_at
        self.is_delivered: bool | None = None
        self.has_waited = False

    def move_to_slow(self) -> None:
        """Give the slot to another request before this one begins, because this one waits for something else."""
        self._limiter.move_to_slow(self)

    def __enter__(self) -> "AcquiredSlot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limiter.release(self)
