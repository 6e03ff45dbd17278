"""Report scores of SCORM sessions that waited for newer ones."""

import asyncio
from collections.abc import Callable

from streams.features.course_sessions.session import CourseSession, SessionChange, report_score
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.outage import DATABASE, Outages
from streams.ports import Clock

LOOK_EVERY_SECONDS = 1.0
AT_ONCE = 100
RETRY_SECONDS = 1.0


async def report_scores(sessions: SqlCourseSessions, clock: Clock, new_id: Callable[[], str], outages: Outages) -> None:
    """Serve until cancelled. What waits is in the database: a crash loses no score."""

    def report(session: CourseSession) -> SessionChange:
        return report_score(session, clock.now(), new_id)

    while True:
        count = await outages.retry(lambda: sessions.report_due(clock.now(), report, AT_ONCE), RETRY_SECONDS, DATABASE)
        await asyncio.sleep(0 if count == AT_ONCE else LOOK_EVERY_SECONDS)
