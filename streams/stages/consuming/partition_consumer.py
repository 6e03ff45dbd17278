"""Handle many records at once, each when it is due, and commit the completed ones."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from streams.core.deliveries.delivery import Delivery
from streams.core.errors import InvalidRecord, NewerRecord, RecordAbandoned
from streams.core.queues.fair_queue import FairQueue
from streams.core.records.offset_tracker import WINDOW_OFFSETS, Commit
from streams.outage import Outages
from streams.ports.kafka import Partition, Record, RecordConsumer, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.stages.consuming.commits import Commits
from streams.stages.consuming.newer_record import as_one_problem, pause_for_newer_release
from streams.stages.consuming.partition_state import LOW_PRIORITY_BUDGET_SHARE, Handler, PartitionPause, PartitionState
from streams.stages.invalid_records import store_invalid
from streams.tasks import run_until_first_ends

# After the budget was used up, this many partitions of a topic are read again at once, and the others later. A fetch of
# librdkafka has room for these, and begins with the same ones after each pause: the others would never be read.
MAX_RESUMED_PARTITIONS = 8
RESUME_INTERVAL_SECONDS = 0.03

# A due record, its decoded value, and its partition.
QueuedRecord = tuple[PartitionState, Record, Delivery | InvalidRecord]

# Calls a function after this many seconds.
CallLater = Callable[[float, Callable[[], None]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How many records are started at once, and how long the consumer waits."""

    # Tasks started in one iteration of the loop: their requests are sent together. More would delay those that run.
    tasks_per_iteration: int = 16
    # The next commit follows when the last one is answered, at most this often: this decides how much a crash repeats.
    commit_interval_seconds: float = 0.1
    # Limits the last commit of a drain, because a client waits endlessly for an absent broker.
    commit_timeout_seconds: float = 3.0
    revoke_timeout_seconds: float = 3.0


class PartitionConsumer:
    """Handles the records of a consumer group: due → tracked as open → handled → complete → committed.

    A partition is paused while its first record is not due, while the window of its offsets is full, or while the
    process handles too many records: `max_open` for first attempts, three quarters of it for tiers and the
    bulk, no limit for tests. It is paused for good at a record that a newer release wrote. Accounts take turns with the
    records of each topic: a burst of one account does not delay another account's records behind it in a partition.

    If the handler raises `InvalidRecord`, the record is stored as invalid. If the handler raises `RecordAbandoned`, or
    is cancelled, the record stays uncommitted for the next owner.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        handler: Handler,
        producer: RecordProducer,
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
        max_open: int = 4000,
        call_later: CallLater | None = None,
        pacing: Pacing = Pacing(),
    ) -> None:
        self._consumer = consumer
        self._handler = handler
        self._producer = producer
        self._clock = clock
        self._telemetry = telemetry
        self._commits = Commits(consumer, telemetry, outages)
        self._max_open = max_open
        self._call_later: CallLater = call_later or asyncio.get_running_loop().call_later
        self._pacing = pacing
        self._open_count = 0
        self._has_budget_pauses = False
        self._is_resume_scheduled = False
        self._batch_number = 0
        self._is_draining = False
        self._has_left = False
        self._partitions: dict[Partition, PartitionState] = {}
        self._queue: FairQueue[QueuedRecord] = FairQueue()
        self._is_starting = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until cancelled. An unexpected exception of a handler is raised, and its record stays uncommitted."""
        await run_until_first_ends(lambda: self._failure, self._commit_regularly, lambda: self._consumer.run(self))

    async def drain(self, seconds: float, last_seconds: float) -> None:
        """Start no more handlers, wait up to `seconds` for the running ones, and give all partitions back.

        What was completed is committed before. Handlers that still run end within `last_seconds` of the call, or are
        cancelled: the next owners of the partitions do not wait for them, and handle their records again.
        Raises `TimeoutError` if some were cancelled, or the commit was not answered.
        """
        self._is_draining = True
        for state in self._partitions.values():
            self._drop_queued(state)
        states = list(self._partitions.values())
        started_at = asyncio.get_running_loop().time()
        await _wait_for_tasks(states, seconds)
        try:
            await self._commit_last(states)
        finally:
            self._has_left = True
            self._consumer.leave()
            await _wait_for_tasks(states, max(0.0, started_at + last_seconds - asyncio.get_running_loop().time()))
            unfinished_tasks = [task for state in states for task in state.tasks]
            for task in unfinished_tasks:
                task.cancel()
        if unfinished_tasks:
            raise TimeoutError(f"records not finished: {len(unfinished_tasks)}")

    async def _commit_last(self, states: Sequence[PartitionState]) -> None:
        # A commit in progress may stay unacknowledged; this one must not. Nothing may run before it and take the
        # progress.
        for state in states:
            state.has_progress = True
        try:
            async with asyncio.timeout(self._pacing.commit_timeout_seconds):
                await self._commits.commit(self._partitions.values())
        except TimeoutError:
            raise TimeoutError("the last commit was not answered") from None

    def readiness_problems(self) -> list[str]:
        """Which partitions wait for a newer release."""
        return as_one_problem(
            [state.newer_record_problem for state in self._partitions.values() if state.newer_record_problem]
        )

    # -- called by the consumer --------------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        for partition, commit in partitions.items():
            self._partitions[partition] = PartitionState(self._consumer, partition, commit)
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))

    def on_received(self, records: Sequence[Record]) -> None:
        if self._is_draining:
            return
        self._batch_number += 1
        for record in records:
            state = self._partitions.get(record.partition)
            if state is not None:
                state.last_batch_number = self._batch_number
                self._receive(state, record)
        if self._open_count >= LOW_PRIORITY_BUDGET_SHARE * self._max_open:
            self._pause_over_budget()
        if not self._is_starting:
            self._start_tasks()

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        states = [state for partition in partitions if (state := self._partitions.pop(partition, None))]
        for state in states:
            state.revoke()
            self._drop_queued(state)
        self._resume_within_budget()
        self._telemetry.info("partitions_lost" if is_lost else "partitions_revoked", count=len(states))
        if is_lost:
            return {}
        await _wait_for_tasks(states, 0.0 if self._has_left else self._pacing.revoke_timeout_seconds)
        if unfinished_count := sum(len(state.tasks) for state in states):
            self._telemetry.warning(
                "revoke_timed_out",
                count=unfinished_count,
                effect="unfinished records are handled again by the next owner",
            )
        return {state.partition: commit for state in states if (commit := state.offsets.next_commit())}

    # -- one record --------------------------------------------------------------------------------------------

    def _receive(self, state: PartitionState, record: Record) -> None:
        """Queue a record that is due and within the window; otherwise pause its partition."""
        if state.not_due_records:
            state.keep_not_due(record)
        elif state.pause_reasons:
            pass  # what follows the record at which it was paused is fetched again
        elif state.tier_wait is not None and (
            (seconds := (record.appended_at + state.tier_wait - self._clock.now()).total_seconds()) > 0
        ):
            state.pause(PartitionPause.NOT_DUE)
            state.keep_not_due(record)
            self._call_later(seconds + 0.001, partial(self._end_pause, state, PartitionPause.NOT_DUE))
        elif not state.offsets.is_within_window(record.offset):
            state.pause(PartitionPause.WINDOW_FULL, record.offset)
        elif state.offsets.is_restored(record.offset):
            state.offsets.open(record.offset)
            # The commit may move past it now.
            state.has_progress = True
        else:
            self._enqueue(state, record)

    def _enqueue(self, state: PartitionState, record: Record) -> None:
        value: Delivery | InvalidRecord
        try:
            value = self._handler.read(record)
        except NewerRecord as error:
            state.newer_record_problem = pause_for_newer_release(self._telemetry, record, error)
            state.pause(PartitionPause.NEWER_RECORD, record.offset)
            return
        except InvalidRecord as error:
            value = error
        state.offsets.open(record.offset)
        self._open_count += 1
        state.queued_count += 1
        account_id = "" if isinstance(value, InvalidRecord) else value.account_id
        self._queue.put(f"{record.partition.topic} {account_id}", (state, record, value))

    def _start_tasks(self) -> None:
        """Start some handlers, one of each account in turn; the others start in the next iteration of the loop."""
        for state, record, value in self._queue.take(
            self._pacing.tasks_per_iteration, max_turn_cost=1, cost=lambda _: 1
        ):
            state.queued_count -= 1
            state.tasks.add(asyncio.create_task(self._handle(state, record, value)))
        self._is_starting = bool(self._queue)
        if self._is_starting:
            asyncio.get_running_loop().call_soon(self._start_tasks)

    async def _handle(self, state: PartitionState, record: Record, value: Delivery | InvalidRecord) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            try:
                if isinstance(value, InvalidRecord):
                    raise value
                await self._handler.deliver(record, value, state)
            except InvalidRecord as error:
                await store_invalid(self._producer, self._telemetry, [(record, str(error))])
        except (RecordAbandoned, asyncio.CancelledError):
            return
        except Exception as error:
            self._fail(error)
            return
        finally:
            self._open_count -= 1
            state.tasks.discard(task)
        state.offsets.complete(record.offset)
        state.has_progress = True
        is_window_full = PartitionPause.WINDOW_FULL in state.pause_reasons
        if is_window_full and state.offsets.is_within_window(state.paused_at_offset + WINDOW_OFFSETS // 2):
            self._end_pause(state, PartitionPause.WINDOW_FULL)
        if self._has_budget_pauses:
            self._resume_within_budget()

    def _drop_queued(self, state: PartitionState) -> None:
        """Drop the records not started: they stay uncommitted for the next owner of the partition."""
        if state.queued_count:
            self._queue.retain(lambda queued: queued[0] is not state)
            self._open_count -= state.queued_count
            state.queued_count = 0
        state.not_due_records.clear()

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    # -- pauses ------------------------------------------------------------------------------------------------

    def _pause_over_budget(self) -> None:
        """Pause the partitions whose share of the budget is used; records that arrived are kept."""
        for state in self._partitions.values():
            if self._is_over_budget(state):
                self._has_budget_pauses = True
                state.pause(PartitionPause.OVER_BUDGET)

    def _is_over_budget(self, state: PartitionState) -> bool:
        return self._open_count >= state.budget_share * self._max_open

    def _resume_within_budget(self) -> None:
        """Read some partitions of each topic again, first those that have had no records for longest."""
        if not self._has_budget_pauses or self._is_resume_scheduled or self._open_count > self._max_open // 2:
            return
        by_topic: defaultdict[str, list[PartitionState]] = defaultdict(list)
        for state in sorted(self._partitions.values(), key=lambda state: state.last_batch_number):
            if PartitionPause.OVER_BUDGET in state.pause_reasons:
                by_topic[state.partition.topic].append(state)
        self._has_budget_pauses = self._is_resume_scheduled = any(
            len(paused_partitions) > MAX_RESUMED_PARTITIONS for paused_partitions in by_topic.values()
        )
        for paused_partitions in by_topic.values():
            for state in paused_partitions[:MAX_RESUMED_PARTITIONS]:
                self._end_pause(state, PartitionPause.OVER_BUDGET)
        if self._is_resume_scheduled:
            self._call_later(RESUME_INTERVAL_SECONDS, self._resume_more)

    def _resume_more(self) -> None:
        self._is_resume_scheduled = False
        self._resume_within_budget()

    def _end_pause(self, state: PartitionState, reason: PartitionPause) -> None:
        if reason in state.pause_reasons:
            state.pause_reasons.remove(reason)
            if not (state.pause_reasons or state.is_revoked or self._is_draining):
                self._resume(state)

    def _resume(self, state: PartitionState) -> None:
        """Continue with the kept records, then read further; later if the budget is used up.

        Only this partition may be paused here: records of any other may be on their way.
        """
        if self._is_over_budget(state):
            self._has_budget_pauses = True
            state.pause(PartitionPause.OVER_BUDGET)
            return
        not_due_records, state.not_due_records = state.not_due_records, deque()
        try:
            for record in not_due_records:
                self._receive(state, record)
        except Exception as error:
            self._fail(error)
            return
        if not state.pause_reasons:
            state.resume()
        if not self._is_starting:
            self._start_tasks()

    # -- commits -----------------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._pacing.commit_interval_seconds)
            self._telemetry.gauge("records_open", self._open_count)
            waiting_count = sum(state.newer_record_problem is not None for state in self._partitions.values())
            self._telemetry.gauge("partitions_of_newer_release", waiting_count)
            if not self._has_left:
                await self._commits.commit(self._partitions.values())


async def _wait_for_tasks(states: Sequence[PartitionState], seconds: float) -> None:
    tasks = [task for state in states for task in state.tasks]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
