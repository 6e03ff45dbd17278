"""A session, its commits and its events change together, one commit after the other."""

import asyncio
import itertools
import random
import string
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from builders import NOON
from contract.stores import SqlStore
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.course_sessions import commit_urls, course_sessions
from streams.core.errors import Conflict
from streams.core.events.event import Event
from streams.core.limits import MAX_ID_CHARACTERS, MAX_LEARNER_BYTES, MAX_SCORES_PER_SESSION
from streams.features.course_sessions.changes import (
    EventContext,
    SessionChange,
    apply_commit,
    close,
    end_if_due,
    launch,
    report_score,
)
from streams.features.course_sessions.commit import Completion, PlayerCommit, Score, Success
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.progress import new_progress
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.ports.storage import Prunable

CODEC = AvroCodec()
TOKEN = "0" * 64
NUMBERS = itertools.count()
DONE = PlayerCommit(
    lesson_status="passed", score=Score(raw=85.0), session_time=Decimal("750.5"), sequence=1, digest="a"
)


@pytest_asyncio.fixture
async def sessions(database: SqlStore) -> SqlCourseSessions:
    made = SqlCourseSessions(database.database, CODEC, FakeTelemetry(), FakeEncryption())
    await made.open(launch(session(), made_at(NOON, "evt_launch")), url(), lambda known: None)
    return made


def session(session_id: str = "s-1") -> CourseSession:
    known = new_progress(Completion.UNKNOWN, Success.UNKNOWN, Score(), Decimal(60))
    return CourseSession("acme", session_id, "pkg_1", "Ada", NOON, NOON + timedelta(hours=1), "dsp_1", known)


def made_at(now: datetime, *event_ids: str) -> EventContext:
    """Events of a time, with these ids."""
    return EventContext(now, partial(next, iter(event_ids)))


def url(token: str = TOKEN, hours: int = 1) -> CommitUrl:
    return CommitUrl(token, "acme", "s-1", NOON + timedelta(hours=hours))


def applying(commit: PlayerCommit, event_id: str, now: datetime = NOON):  # type: ignore[no-untyped-def]
    def apply(known: CourseSession, _: CommitUrl) -> SessionChange:
        return apply_commit(known, commit, made_at(now, f"{event_id}_a", f"{event_id}_b", f"{event_id}_c"))

    return apply


async def waiting(database: SqlStore) -> list[str]:
    """The types of the events, in the order in which they are sent."""
    due = await SqlOutgoingEvents(database.database).list_due(100)
    events = [CODEC.decode(one.value) for one in due]
    return [one.type for one in events if isinstance(one, Event)]


async def test_a_session_is_stored_as_it_is(sessions: SqlCourseSessions) -> None:
    assert await sessions.commit(TOKEN, applying(DONE, "evt"))
    found = await sessions.find("acme", "s-1")
    expected = launch(session(), made_at(NOON, "evt_launch")).session
    assert found == applying(DONE, "evt")(expected, url()).session
    assert await sessions.find("acme", "s-2") is None
    assert await sessions.find("globex", "s-1") is None


async def test_a_commit_url_tells_its_account(sessions: SqlCourseSessions) -> None:
    tokens = [TOKEN, "2" * 64, TOKEN]
    assert await asyncio.gather(*map(sessions.account_of, tokens)) == ["acme", None, "acme"]
    # What was not there is looked up again.
    await sessions.open(launch(session("s-2"), made_at(NOON, "evt_2")), url("2" * 64), lambda known: None)
    assert await sessions.account_of("2" * 64) == "acme"


async def test_the_longest_ids_fit_into_each_index(database: SqlStore, sessions: SqlCourseSessions) -> None:
    # PostgreSQL compresses what repeats itself.
    learner_id = "".join(random.Random(1).choices("".join(map(chr, range(0x4E00, 0x9FA5))), k=MAX_LEARNER_BYTES // 3))
    longest = replace(
        session("s" * MAX_ID_CHARACTERS),
        package_id="".join(random.Random(2).choices(string.ascii_letters, k=MAX_ID_CHARACTERS)),
        learner_id=learner_id,
        stored_state=StoreResult.STORED,
    )
    found = await sessions.open(launch(longest, made_at(NOON, "evt_long")), url("1" * 64), lambda known: None)
    assert (found.learner_id, found.stored_state) == (learner_id, StoreResult.STORED)


async def test_events_leave_in_their_order_whatever_the_clock_does(
    database: SqlStore, sessions: SqlCourseSessions
) -> None:
    # Ids of events do not sort by time here, and another process's clock is an hour late.
    assert await sessions.commit(TOKEN, applying(DONE, "a", NOON - timedelta(hours=1)))
    assert await waiting(database) == ["session.launched", "session.scored", "session.completed"]


async def test_an_event_is_keyed_by_its_session(database: SqlStore, sessions: SqlCourseSessions) -> None:
    assert [one.key for one in await SqlOutgoingEvents(database.database).list_due(9)] == ["s-1"]


async def test_commits_at_the_same_time_follow_each_other(database: SqlStore, sessions: SqlCourseSessions) -> None:
    commits = [PlayerCommit(score=Score(raw=float(number))) for number in range(12)] + [DONE] * 4
    await asyncio.gather(*(sessions.commit(TOKEN, applying(one, f"evt_{n}")) for n, one in enumerate(commits)))
    types = await waiting(database)
    assert types.count("session.completed") == 1
    # The first one, and the newest with the completion.
    assert types.count("session.scored") == 2


def scored(raw: float) -> PlayerCommit:
    return PlayerCommit(score=Score(raw=raw))


def after_seconds(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def reported(database: SqlStore) -> list[float | str]:
    """The scores, and the types of the other events, in the order in which they are sent."""
    due = await SqlOutgoingEvents(database.database).list_due(1000)
    events = [CODEC.decode(one.value) for one in due]
    found = [one for one in events if isinstance(one, Event)]
    return [float(str(one.data["scoreRaw"])) if one.type == "session.scored" else one.type for one in found]


async def report(sessions: SqlCourseSessions, at: datetime, limit: int = 10) -> int:
    """Report what is due, as `publish` does."""
    new = EventContext(at, lambda: f"evt_{next(NUMBERS)}_due")
    return await sessions.report_due(at, lambda one: report_score(one, new), limit)


async def test_twenty_scores_a_second_are_one_in_five_seconds(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(200):
        at = after_seconds(number / 20)
        assert await sessions.commit(TOKEN, applying(scored(number), f"evt_{number}", at))
        if number % 5 == 0:
            await report(sessions, at)
    assert await reported(database) == ["session.launched", 0.0, 100.0]
    # The course is silent, and the newest score leaves.
    for seconds, newest in ((9.9, []), (10, [199.0]), (15, [199.0])):
        await report(sessions, after_seconds(seconds))
        assert await reported(database) == ["session.launched", 0.0, 100.0, *newest]


async def test_a_completion_does_not_wait_and_has_the_newest_score(
    database: SqlStore, sessions: SqlCourseSessions
) -> None:
    for number in range(3):
        await sessions.commit(TOKEN, applying(scored(number), f"evt_{number}", after_seconds(number)))
    await sessions.commit(TOKEN, applying(PlayerCommit(lesson_status="passed"), "evt_done", after_seconds(3)))
    assert await reported(database) == ["session.launched", 0.0, 2.0, "session.completed"]
    assert await report(sessions, after_seconds(60)) == 0


async def test_a_score_that_waits_is_stored_with_its_session(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(3):
        await sessions.commit(TOKEN, applying(scored(number), f"evt_{number}", after_seconds(number)))
    # The process dies, and another one goes on.
    again = SqlCourseSessions(database.database, CODEC, FakeTelemetry(), FakeEncryption())
    assert await report(again, after_seconds(60)) == 1
    assert await reported(database) == ["session.launched", 0.0, 2.0]


async def test_a_session_with_a_score_that_waits_is_kept(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(2):
        await sessions.commit(TOKEN, applying(scored(number), f"evt_{number}", after_seconds(number)))
    pruning, later = SqlPruning(database.database), after_seconds(86_400)
    assert (await pruning.prune(Prunable.COURSE_SESSIONS, later, 10)).rows == 0
    assert await report(sessions, later) == 1
    assert await sessions.end_due("", later, partial(end_if_due, context=made_at(later, "evt_end")), 10) == "acme"
    assert (await pruning.prune(Prunable.COURSE_SESSIONS, later, 10)).rows == 1


async def test_scores_are_reported_in_portions(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for name in "abc":
        await sessions.open(
            launch(session(name), made_at(NOON, f"launch_{name}")),
            CommitUrl(name * 64, "acme", name, NOON + timedelta(hours=1)),
            lambda known: None,
        )
        for number in range(2):
            await sessions.commit(name * 64, applying(scored(number), f"evt_{name}{number}", after_seconds(number)))
    counts = [await report(sessions, after_seconds(60), 2) for _ in range(3)]
    assert counts == [2, 1, 0]


async def test_a_session_has_200_scores_at_most(database: SqlStore) -> None:
    telemetry = FakeTelemetry()
    sessions = SqlCourseSessions(database.database, CODEC, telemetry, FakeEncryption())
    await sessions.open(launch(session(), made_at(NOON, "evt_launch")), url(), lambda known: None)
    for number in range(MAX_SCORES_PER_SESSION + 5):
        await sessions.commit(TOKEN, applying(scored(number), f"evt_{number}", after_seconds(5 * number)))
    assert telemetry.logged == [("session_scores_ended", {"account_id": "acme", "session_id": "s-1"})]
    await sessions.commit(TOKEN, applying(DONE, "evt_done", after_seconds(5000)))
    assert await reported(database) == [
        "session.launched",
        *map(float, range(MAX_SCORES_PER_SESSION)),
        "session.completed",
    ]


async def test_a_refused_commit_changes_nothing(database: SqlStore, sessions: SqlCourseSessions) -> None:
    before = await sessions.find("acme", "s-1")

    def refuse(known: CourseSession, given: CommitUrl) -> SessionChange:
        assert given == url()
        raise Conflict("no")

    with pytest.raises(Conflict):
        await sessions.commit(TOKEN, refuse)
    assert not await sessions.commit("1" * 64, applying(DONE, "evt"))
    assert await sessions.find("acme", "s-1") == before
    assert await waiting(database) == ["session.launched"]


async def test_a_session_is_launched_once(database: SqlStore, sessions: SqlCourseSessions) -> None:
    again = [
        sessions.open(launch(session(), made_at(NOON, f"evt_{n}")), url(f"{n}" * 64, hours=n), lambda known: None)
        for n in range(1, 6)
    ]
    found = await asyncio.gather(*again)
    assert max(one.expires_at for one in found) == NOON + timedelta(hours=5)
    known = await sessions.find("acme", "s-1")
    assert known is not None
    assert known.expires_at == NOON + timedelta(hours=5)
    assert await waiting(database) == ["session.launched"]
    assert await database.count(commit_urls) == 6
    assert await sessions.commit("5" * 64, applying(DONE, "evt"))


async def test_a_refused_launch_makes_no_commit_url(database: SqlStore, sessions: SqlCourseSessions) -> None:
    def refuse(known: CourseSession) -> None:
        raise Conflict("closed")

    with pytest.raises(Conflict):
        await sessions.open(launch(session(), made_at(NOON, "evt_2")), url("2" * 64), refuse)
    assert await database.count(commit_urls) == 1


async def test_a_session_is_closed_once(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for minutes in (1, 2):
        new = made_at(NOON + timedelta(minutes=minutes), f"evt_{minutes}")
        closed = await sessions.close("acme", "s-1", partial(close, context=new))
        assert closed is not None
        assert closed.closed_at == NOON + timedelta(minutes=1)
    assert await sessions.close("acme", "s-2", partial(close, context=made_at(NOON))) is None
    assert await waiting(database) == ["session.launched", "session.ended"]


async def test_a_long_player_keeps_a_small_row(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(300):
        commit = PlayerCommit(score=Score(raw=float(number)), sequence=number, digest=f"{number:016}")
        assert await sessions.commit(TOKEN, applying(commit, f"evt_{number}"))
    async with database.database.read_transaction() as connection:
        sizes = select(func.length(course_sessions.c.progress) + func.length(course_sessions.c.events))
        assert int(await connection.scalar(sizes) or 0) < 6000
