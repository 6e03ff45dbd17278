"""Postpone work that fails because of its row, and try it again later, so that one row cannot end a loop."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from streams.core.errors import ROW_ERRORS, RowRefused, Unavailable
from streams.core.failed_work import FailedRow, FailedWork, WorkKind, error_text, retry_seconds
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import FailedWorkLog

# Beyond the limit the oldest of a kind is forgotten, and tried again at once.
MAX_POSTPONED_PER_KIND = 10_000


class PostponedWork:
    """Units of work that failed in this process. Each unit is tried again after 5 s, 10 s, … up to 5 minutes.

    A new process tries all of it immediately, but only once. `now` is in seconds.
    """

    def __init__(
        self, log: FailedWorkLog, clock: Clock, telemetry: Telemetry, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._telemetry = telemetry
        self._now = now
        # By kind and id: the failure, and when the work is due again.
        self._failures: dict[WorkKind, dict[str, tuple[FailedWork, float]]] = {kind: {} for kind in WorkKind}

    def is_due(self, kind: WorkKind, work_id: str) -> bool:
        """Whether this work may be tried now."""
        _, due_at = self._failures[kind].get(work_id, (None, 0.0))
        return self._now() >= due_at

    def postponed_ids(self, kind: WorkKind) -> Collection[str]:
        """The work of this kind that is not due yet, for queries to leave out."""
        return [work_id for work_id in self._failures[kind] if not self.is_due(kind, work_id)]

    @asynccontextmanager
    async def unit(self, kind: WorkKind, work_id: str, account_id: str = "") -> AsyncIterator[None]:
        """Run one unit of work. It is postponed if it raises one of `ROW_ERRORS`; any other exception is raised."""
        try:
            yield
        except ROW_ERRORS as error:
            await self.postpone(kind, work_id, account_id, error_text(error))
        else:
            await self.note_success(kind, work_id)

    async def postpone_rows(self, kind: WorkKind, rows: Iterable[FailedRow]) -> None:
        """Postpone the work of rows that could not be handled, unless it is postponed already."""
        for row in rows:
            if self.is_due(kind, row.id):
                await self.postpone(kind, row.id, row.account_id, row.error)

    async def postpone(self, kind: WorkKind, work_id: str, account_id: str, why: str) -> None:
        """Note a failure: in memory, in the log, and for operators."""
        now, failures = self._clock.now(), self._failures[kind]
        earlier, _ = failures.pop(work_id, (None, 0.0))
        failure = FailedWork(kind, work_id, account_id, why, 1, now, now)
        if earlier is not None:
            failure = replace(failure, failures=earlier.failures + 1, first_failed_at=earlier.first_failed_at)
        pause_seconds = retry_seconds(failure.failures)
        if len(failures) >= MAX_POSTPONED_PER_KIND:
            del failures[next(iter(failures))]
        failures[work_id] = failure, self._now() + pause_seconds
        self._telemetry.count("work_failed_total", kind=str(kind))
        self._telemetry.error(
            "work_postponed",
            kind=str(kind),
            work_id=work_id,
            account_id=account_id,
            why=why,
            failures=failure.failures,
            retry_seconds=pause_seconds,
        )
        with suppress(Unavailable, RowRefused):  # The log has it.
            await self._log.note(failure)

    async def note_success(self, kind: WorkKind, work_id: str) -> None:
        """Forget the failures of this work, if there were any."""
        if work_id in self._failures[kind]:
            del self._failures[kind][work_id]
            self._telemetry.info("work_resumed", kind=str(kind), work_id=work_id)
            with suppress(Unavailable):
                await self._log.remove(kind, work_id)
