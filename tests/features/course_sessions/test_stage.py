"""`publish` reports scores that are due, through an outage of the database."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from builders import NOON
from fakes import FakeClock, FakeTelemetry, cancel_others, no_wait, postponed_work, until
from streams.core.errors import Unavailable
from streams.features.course_sessions.changes import EventContext, SessionChange, apply_commit
from streams.features.course_sessions.commit import PlayerCommit, Score
from streams.features.course_sessions.session import MIN_SCORE_INTERVAL, CourseSession
from streams.features.course_sessions.stage import DueReports, ReportTimes
from streams.outage import Outages


class FakeDueScores:
    """The `report_due` of `CourseSessions`, for one session. The first look fails."""

    def __init__(self, session: CourseSession) -> None:
        self.session = session
        self.changes = list[SessionChange]()
        self.looks = 0

    async def report_due(
        self, now: object, report: Callable[[CourseSession], SessionChange], limit: int, *aside: object
    ) -> int:
        await asyncio.sleep(0)
        self.looks += 1
        if self.looks == 1:
            raise Unavailable("the database is away")
        if self.session.score_due_at is None or self.session.score_due_at > now:  # type: ignore[operator]
            return 0
        self.changes.append(report(self.session))
        self.session = self.changes[-1].session
        return 1


def reports_of(sessions: object, clock: FakeClock) -> DueReports:
    telemetry, times = FakeTelemetry(), ReportTimes(poll_interval=0, end_poll_interval=0, turn_pause=0)
    outages, work = Outages(telemetry, sleep=no_wait), postponed_work(telemetry)
    return DueReports(sessions, clock, outages, work, times)  # type: ignore[arg-type]


async def test_a_score_leaves_when_it_is_due() -> None:
    session = CourseSession("acme", "sess_1", "pkg_1", "ada", NOON, NOON + timedelta(hours=1))
    for raw in (1.0, 2.0, 3.0):
        session = apply_commit(session, PlayerCommit(score=Score(raw=raw)), EventContext(NOON, lambda: "evt_1")).session
    assert session.score_due_at == NOON + MIN_SCORE_INTERVAL
    sessions, clock = FakeDueScores(session), FakeClock()
    reports = reports_of(sessions, clock)
    asyncio.create_task(reports.report_scores())  # noqa: RUF006
    await until(lambda: sessions.looks > 3)
    assert sessions.changes == []
    clock.advance(MIN_SCORE_INTERVAL.total_seconds())
    await until(lambda: bool(sessions.changes))
    [(event, _)] = sessions.changes[0].events
    assert (event.data["scoreRaw"], event.occurred_at) == (3.0, clock.now())
    await cancel_others()


class FakeDueEnds:
    """The `end_due` of `CourseSessions`: how many sessions of each account are to end. The first look fails."""

    def __init__(self, **due: int) -> None:
        self.due = due
        self.turns = list[str]()
        self.looks = 0

    async def end_due(self, after: str, now: object, end: object, limit: int, *aside: object) -> str | None:
        await asyncio.sleep(0)
        self.looks += 1
        if self.looks == 1:
            raise Unavailable("the database is away")
        account = min((one for one, count in self.due.items() if count and one > after), default=None)
        if account is not None:
            self.due[account] -= 1
            self.turns.append(account)
        return account


async def test_accounts_take_turns_until_all_have_ended() -> None:
    sessions = FakeDueEnds(acme=3, globex=1, initech=2)
    reports = reports_of(sessions, FakeClock())
    asyncio.create_task(reports.report_ends())  # noqa: RUF006
    await until(lambda: len(sessions.turns) == 6)
    assert sessions.turns == ["acme", "globex", "initech", "acme", "initech", "acme"]
    sessions.due["globex"] = 1
    await until(lambda: len(sessions.turns) == 7)
    await cancel_others()
