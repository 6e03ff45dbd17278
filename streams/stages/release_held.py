"""Release held deliveries of active webhooks, oldest first, at the pace of each endpoint."""

import asyncio
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from streams.core.deliveries.attempt import DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, State, SubscriptionsPosition
from streams.core.deliveries.delivery_moves import TRANSITIONS
from streams.core.deliveries.delivery_state import Batch, DeliveryState, state_of_record
from streams.core.deliveries.held import HeldChoice, HeldDelivery, ReleaseProgress, ReleaseWindow
from streams.core.errors import ROW_ERRORS, InvalidRecord, RecordsRefused, Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.core.queues.rate import BatchTokenBucket
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.ports.delivery import Subscriptions
from streams.ports.kafka import Codec, Outgoing, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import HeldDeliveries, Recorder
from streams.stages.postponed_work import PostponedWork
from streams.topics import DEAD_LETTERS, DELIVERIES

CYCLE_SECONDS = 0.1
IDLE_SECONDS = 1.0
MIN_PAUSE_SECONDS = 0.02
# The part of a webhook's rate that one cycle releases, in seconds: less than `deliver` keeps in memory.
RATE_WINDOW_SECONDS = 2.0
# The publisher in this process uses the database too.
MAX_CONCURRENT_QUERIES = 4
MAX_PORTION_DELIVERIES = 2000

KEPT_MESSAGE = "The webhook was enabled with the choice to keep its held deliveries as dead letters."
NOT_PULLED_MESSAGE = "No reader pulled and acknowledged it within the retention of its webhook."
DISCARDED_MESSAGE = "The webhook was enabled with the choice to discard its held deliveries."
ENDED_MESSAGE = "Its webhook was temporary, and has ended."

# The record that ends a hold, if there is one, and the delivery's state after it.
ReleaseResult = tuple[Outgoing | None, DeliveryState]


_LOG_EVENTS = {
    State.WAITING: "delivery_released",
    State.DEAD: "delivery_given_up",
    State.DISCARDED: "delivery_discarded",
    # A test event that no reader pulled.
    State.FAILED: "delivery_given_up",
}


@dataclass(slots=True)
class _WebhookState:
    """One webhook: its pace, its window, and the (generation, step) of released deliveries not yet attempted."""

    pace: BatchTokenBucket
    window: ReleaseWindow = field(default_factory=ReleaseWindow)
    released_steps: dict[str, tuple[int, int]] = field(default_factory=dict)
    backoff_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLimits:
    """How much is released and read at once."""

    # One cycle releases in at most this many chunks.
    max_chunks: int = 10
    min_chunk_records: int = 10
    max_portion_webhooks: int = 32
    progress_batch_size: int = 1000


class ReleaseHeld:
    """Releases held deliveries that may be sent: their state says so, not the reason why they were held.

    At most `per_second` deliveries of one webhook are released in a second, because new events share all stages.
    Produce → acknowledged → stored: a crash in between produces the same records again, with the same steps.
    """

    def __init__(
        self,
        held_deliveries: HeldDeliveries,
        recorder: Recorder,
        subscriptions: Subscriptions,
        producer: RecordProducer,
        codec: Codec,
        clock: Clock,
        telemetry: Telemetry,
        postponed_work: PostponedWork,
        per_second: int,
        limits: ReleaseLimits = ReleaseLimits(),
    ) -> None:
        self._held_deliveries = held_deliveries
        self._recorder = recorder
        self._subscriptions = subscriptions
        self._producer = producer
        self._codec = codec
        self._clock = clock
        self._telemetry = telemetry
        self._postponed_work = postponed_work
        self._per_second = per_second
        self._limits = limits
        self._query_slots = asyncio.Semaphore(MAX_CONCURRENT_QUERIES)
        self._webhooks: dict[str, _WebhookState] = {}

    async def run(self) -> None:
        """Serve until cancelled, through outages of the database."""
        while True:
            started_at = asyncio.get_running_loop().time()
            # The publisher logs the outage.
            with suppress(Unavailable):
                await self.cycle()
            elapsed = asyncio.get_running_loop().time() - started_at
            await asyncio.sleep(max(CYCLE_SECONDS - elapsed, MIN_PAUSE_SECONDS) if self._webhooks else IDLE_SECONDS)

    async def cycle(self) -> int:
        """Release held deliveries of every webhook that can receive them. Returns the number released."""
        now = self._clock.now().timestamp()
        await self._adapt_windows(now)
        ready_webhooks = await self._held_deliveries.webhooks()
        self._webhooks = {
            name: state
            for name, state in self._webhooks.items()
            if name in ready_webhooks or state.released_steps or now < state.backoff_until
        }
        limits = {name: self._release_limit(name, deliveries, now) for name, deliveries in ready_webhooks.items()}
        released_count = 0
        portions = list(_portions({name: limit for name, limit in limits.items() if limit > 0}, self._limits))
        for portion in portions:
            released_count += await self._release(portion, CYCLE_SECONDS / len(portions))
        return released_count

    async def _adapt_windows(self, now: float) -> None:
        """Adapt each webhook's window to the results of its released deliveries."""
        delivery_ids = [delivery_id for state in self._webhooks.values() for delivery_id in state.released_steps]
        progress_by_id: dict[str, ReleaseProgress] = {}
        size = self._limits.progress_batch_size
        for start in range(0, len(delivery_ids), size):
            batch_ids, failed_rows = delivery_ids[start : start + size], list[FailedRow]()
            progress = await self._held_deliveries.progress(batch_ids, failed_rows)
            await self._postponed_work.postpone_rows(WorkKind.HELD_DELIVERY, failed_rows)
            progress_by_id |= {item.delivery_id: item for item in progress}
        for state in self._webhooks.values():
            known_progress = {
                delivery_id: progress_by_id[delivery_id]
                for delivery_id in state.released_steps
                if delivery_id in progress_by_id
            }
            unattempted = {
                name: step
                for name, step in state.released_steps.items()
                if name in known_progress and _is_waiting(known_progress[name], step)
            }
            held_again_count = sum(
                item.state is State.HELD and not item.is_for_readers for item in known_progress.values()
            )
            if state.released_steps:
                state.window = state.window.adapt(
                    len(state.released_steps) - len(unattempted) - held_again_count, held_again_count
                )
                state.backoff_until = now + state.window.backoff_seconds
            state.released_steps = unattempted

    def _release_limit(self, webhook_id: str, held_count: int, now: float) -> int:
        """The number of a webhook's deliveries that may be released now."""
        state = self._webhooks.setdefault(webhook_id, _WebhookState(BatchTokenBucket(self._per_second)))
        webhook = self._subscriptions.find(webhook_id)
        rate = webhook.options.rate_per_second if webhook else None
        state.pace.per_second = min(self._per_second, rate or self._per_second)
        if now < state.backoff_until:
            return 0
        # A larger batch would exceed the webhook's rate limit, and be held again.
        limit = state.window.size if rate is None else max(1, int(rate * RATE_WINDOW_SECONDS))
        return min(limit, state.window.size - held_count, state.pace.allowance(now))

    async def _release(self, limits: Mapping[str, int], seconds: float) -> int:
        """Release deliveries of several webhooks, spread over `seconds`."""
        excluded = self._postponed_work.postponed_ids(WorkKind.HELD_DELIVERY)
        failed_rows: list[FailedRow] = []
        portions = await asyncio.gather(
            *(self._oldest(name, limit, excluded, failed_rows) for name, limit in limits.items())
        )
        await self._postponed_work.postpone_rows(WorkKind.HELD_DELIVERY, failed_rows)
        return await self.end_holds([delivery for portion in portions for delivery in portion], seconds)

    async def end_holds(self, deliveries: Sequence[HeldDelivery], seconds: float) -> int:
        """Produce and store the records that end these holds, spread over `seconds`. Returns their number."""
        if not deliveries:
            return 0
        position = await self._subscriptions.catch_up()
        results = [self._try_to_release(delivery, position) for delivery in deliveries]
        refusals = await self._produce([outgoing for outgoing, _ in results if outgoing is not None], seconds)
        results = [
            self._give_up(result, refusals[id(result[0])]) if id(result[0]) in refusals else result
            for result in results
        ]
        stored_ids = await self._record([delivery_state for _, delivery_state in results])
        released_counts, ended_counts = Counter[str](), Counter[str]()
        for delivery, (_, delivery_state) in zip(deliveries, results, strict=True):
            if delivery_state.delivery_id not in stored_ids:
                continue
            self._telemetry.count("deliveries_released_total", choice=delivery.choice)
            if delivery_state.state is State.DEAD:
                self._telemetry.count("dead_letters_total", reason=str(delivery_state.reason))
            if self._telemetry.is_debug_enabled:
                self._telemetry.debug(
                    _LOG_EVENTS[delivery_state.state], **delivery.delivery.ids, choice=str(delivery.choice)
                )
            if delivery_state.state is State.WAITING:
                self._webhooks[delivery_state.webhook_id].released_steps[delivery_state.delivery_id] = (
                    delivery_state.generation,
                    delivery_state.step,
                )
                released_counts[delivery_state.webhook_id] += 1
            else:
                ended_counts[delivery_state.webhook_id] += 1
        for name, count in released_counts.items():
            self._webhooks[name].pace.take(count)
        # Kept and discarded deliveries send nothing to the endpoint, so its pace does not limit them.
        for name, count in ended_counts.items():
            if (state := self._webhooks.get(name)) is not None:
                state.window = state.window.adapt(count, 0)
        return len(deliveries)

    async def _produce(self, records: Sequence[Outgoing], seconds: float) -> Mapping[int, str]:
        """Produce records in chunks, spread over `seconds`, so that `deliver` handles new events between them.

        Returns why Kafka refuses some of them permanently, by the record's `id()`.
        """
        max_chunks = self._limits.max_chunks
        size = max(self._limits.min_chunk_records, math.ceil(len(records) / max_chunks))
        reasons: dict[int, str] = {}
        for start in range(0, len(records), size):
            if start:
                await asyncio.sleep(seconds / max_chunks)
            chunk = records[start : start + size]
            try:
                await self._producer.produce(chunk)
            except RecordsRefused as error:
                reasons |= {id(chunk[index]): reason for index, reason in error.reasons.items()}
        return reasons

    def _try_to_release(self, held_delivery: HeldDelivery, position: SubscriptionsPosition) -> ReleaseResult:
        try:
            return self._release_one(held_delivery, position)
        except InvalidRecord as error:
            delivery = held_delivery.delivery.to_released()._replace(subscriptions_position=position)
            return self._give_up((None, state_of_record(delivery, self._clock.now())), str(error))

    def _give_up(self, result: ReleaseResult, reason: str) -> ReleaseResult:
        """Give up a delivery that can never be released: it becomes a dead letter. It does not stop the others."""
        message = f"It cannot be released: {reason}"
        return None, result[1]._replace(
            state=TRANSITIONS[State.HELD, NextStep.DEAD], due_at=None, reason=str(DeathReason.REFUSED), message=message
        )

    async def _record(self, delivery_states: Sequence[DeliveryState]) -> Collection[str]:
        """Store these states: together, or one by one if one cannot be stored. Returns the ids of the stored ones."""
        try:
            await self._recorder.record(Batch(delivery_states))
        except ROW_ERRORS:
            pass
        else:
            return {delivery_state.delivery_id for delivery_state in delivery_states}
        stored_ids = set[str]()
        for delivery_state in delivery_states:
            delivery_id = delivery_state.delivery_id
            async with self._postponed_work.unit(WorkKind.HELD_DELIVERY, delivery_id, delivery_state.account_id):
                await self._recorder.record(Batch([delivery_state]))
                stored_ids.add(delivery_id)
        return stored_ids

    async def _oldest(
        self, webhook_id: str, limit: int, excluded: Collection[str], failed_rows: list[FailedRow]
    ) -> Sequence[HeldDelivery]:
        async with self._query_slots:
            return await self._held_deliveries.oldest(webhook_id, limit, excluded, failed_rows)

    @invalid_on_failure
    def _release_one(self, held_delivery: HeldDelivery, position: SubscriptionsPosition) -> ReleaseResult:
        """The record that ends a hold, if there is one, and the delivery's state after it."""
        now = self._clock.now()
        key = held_delivery.delivery.webhook_id.encode()
        delivery = held_delivery.delivery.to_released()._replace(subscriptions_position=position)
        if held_delivery.is_unacknowledged and held_delivery.choice is not HeldChoice.DISCARD:
            dead_letter = DeadLetter(delivery, DeathReason.NOT_PULLED, NOT_PULLED_MESSAGE)
            return Outgoing(DEAD_LETTERS, key, self._codec.encode(dead_letter)), state_of_record(dead_letter, now)
        if held_delivery.choice is HeldChoice.KEEP:
            dead_letter = DeadLetter(delivery, DeathReason.KEPT, KEPT_MESSAGE)
            return Outgoing(DEAD_LETTERS, key, self._codec.encode(dead_letter)), state_of_record(dead_letter, now)
        delivery_state = state_of_record(delivery, now)
        if held_delivery.choice is HeldChoice.DISCARD:
            message = ENDED_MESSAGE if held_delivery.is_unacknowledged else DISCARDED_MESSAGE
            return None, delivery_state._replace(
                state=TRANSITIONS[State.HELD, held_delivery.choice], due_at=None, message=message
            )
        return Outgoing(DELIVERIES, key, self._codec.encode(delivery)), delivery_state


def _is_waiting(progress: ReleaseProgress, released_step: tuple[int, int]) -> bool:
    return progress.state is State.WAITING and (progress.generation, progress.step) == released_step


def _portions(limits: Mapping[str, int], sizes: ReleaseLimits) -> Iterator[dict[str, int]]:
    """Split the limits into portions that fit into memory."""
    portion: dict[str, int] = {}
    for name, limit in limits.items():
        is_full = len(portion) == sizes.max_portion_webhooks or sum(portion.values()) + limit > MAX_PORTION_DELIVERIES
        if portion and is_full:
            yield portion
            portion = {}
        portion[name] = limit
    if portion:
        yield portion
