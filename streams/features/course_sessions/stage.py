"""Report scores of SCORM sessions that waited for newer ones, and the ends of sessions."""

import asyncio
from dataclasses import dataclass
from functools import partial

from streams.core.failed_work import FailedRow, WorkKind
from streams.features.course_sessions.changes import EventContext, SessionChange, end_if_due, report_score
from streams.features.course_sessions.session import CourseSession
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.ids import new_id
from streams.outage import DATABASE, Outages
from streams.ports.runtime import Clock
from streams.stages.postponed_work import PostponedWork

BATCH_SIZE = 100
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTimes:
    """How often scores and ends are looked for, in seconds."""

    poll_interval: float = 1.0
    # Looking for ends reads one index entry for each account.
    end_poll_interval: float = 5.0
    # Between two accounts' turns: the events of a million ends must not delay the events of commits.
    turn_pause: float = 0.1


class DueReports:
    """Reports of sessions that need no commit. All pending reports are in the database, so a crash loses nothing."""

    def __init__(
        self,
        sessions: SqlCourseSessions,
        clock: Clock,
        outages: Outages,
        postponed_work: PostponedWork,
        times: ReportTimes = ReportTimes(),
    ) -> None:
        self._postponed_work = postponed_work
        self._sessions = sessions
        self._clock = clock
        self._outages = outages
        self._times = times

    async def report_scores(self) -> None:
        """Serve until cancelled."""
        while True:
            count = await self._outages.retry(self._report_scores, RETRY_SECONDS, DATABASE)
            await asyncio.sleep(0 if count == BATCH_SIZE else self._times.poll_interval)

    async def report_ends(self) -> None:
        """Serve until cancelled. Accounts take turns."""
        account_id, has_ended = "", False
        while True:
            next_account = await self._outages.retry(partial(self._end_sessions, account_id), RETRY_SECONDS, DATABASE)
            if next_account is not None:
                account_id, has_ended = next_account, True
                await asyncio.sleep(self._times.turn_pause)
                continue
            # A round is over. If sessions ended in it, the next one begins at once.
            await asyncio.sleep(self._times.turn_pause if has_ended else self._times.end_poll_interval)
            account_id, has_ended = "", False

    async def _report_scores(self) -> int:
        def report(session: CourseSession) -> SessionChange:
            return report_score(session, self._event_context())

        excluded, failed_rows = self._postponed_work.postponed_ids(WorkKind.SESSION), list[FailedRow]()
        count = await self._sessions.report_due(self._clock.now(), report, BATCH_SIZE, excluded, failed_rows)
        await self._postponed_work.postpone_rows(WorkKind.SESSION, failed_rows)
        return count

    async def _end_sessions(self, last_account: str) -> str | None:
        def end(session: CourseSession) -> SessionChange:
            return end_if_due(session, self._event_context())

        excluded, failed_rows = self._postponed_work.postponed_ids(WorkKind.SESSION), list[FailedRow]()
        now = self._clock.now()
        account_id = await self._sessions.end_due(last_account, now, end, BATCH_SIZE, excluded, failed_rows)
        await self._postponed_work.postpone_rows(WorkKind.SESSION, failed_rows)
        return account_id

    def _event_context(self) -> EventContext:
        return EventContext(self._clock.now(), lambda: new_id("evt"))
