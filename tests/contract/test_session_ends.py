"""Sessions end once each, in turns of their accounts, and their events are numbered, whatever happens at once."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import count, pairwise

import pytest
import pytest_asyncio
from sqlalchemy import text

from builders import NOON
from contract.stores import SqlStore
from contract.test_indexes import plans
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.adapters.sql.pruning import SqlPruning
from streams.core.accounts.access import ApiKey
from streams.core.accounts.account import Account
from streams.core.events.event import Event
from streams.features.course_sessions.changes import (
    EventContext,
    SessionChange,
    apply_commit,
    close,
    end_if_due,
    launch,
)
from streams.features.course_sessions.commit import PlayerCommit, Score
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.shared.accounts import SqlAccounts
from streams.ports.storage import Prunable

CODEC = AvroCodec()
NUMBERS = count()
ENDS_AT = NOON + timedelta(hours=1)
LATER = ENDS_AT + timedelta(seconds=1)


def new(at: datetime = NOON) -> EventContext:
    return EventContext(at, lambda: f"evt_{next(NUMBERS)}")


def sessions_of(database: SqlStore) -> SqlCourseSessions:
    """As another process has them."""
    return SqlCourseSessions(database.database, CODEC, FakeTelemetry(), FakeEncryption())


@pytest_asyncio.fixture
async def sessions(database: SqlStore) -> SqlCourseSessions:
    return sessions_of(database)


async def open_session(
    sessions: SqlCourseSessions, name: str, account_id: str = "acme", expires_at: datetime = ENDS_AT
) -> None:
    session = CourseSession(account_id, name, "pkg_1", "Ada", NOON, expires_at)
    url = CommitUrl(token_of(name), account_id, name, expires_at)
    await sessions.open(launch(session, new()), url, lambda known: None)


def token_of(name: str) -> str:
    return f"{name:0>64}"


async def events(database: SqlStore) -> list[Event]:
    """All events that wait to be sent, in their order."""
    due = await SqlOutgoingEvents(database.database).list_due(10_000)
    return [event for one in due if isinstance(event := CODEC.decode(one.value), Event)]


async def ended(database: SqlStore) -> list[str]:
    """The sessions whose end was reported, in order."""
    return [str(one.data["sessionId"]) for one in await events(database) if one.type == "session.ended"]


async def end(sessions: SqlCourseSessions, after: str = "", at: datetime = LATER, limit: int = 10) -> str | None:
    return await sessions.end_due(after, at, partial(end_if_due, context=new(at)), limit)


def applying(number: int) -> Callable[[CourseSession, CommitUrl], SessionChange]:
    commit = PlayerCommit(score=Score(raw=float(number)))
    at = NOON + timedelta(seconds=10 * number)
    return lambda known, _: apply_commit(known, commit, new(at))


async def test_commits_at_once_number_their_events(database: SqlStore, sessions: SqlCourseSessions) -> None:
    await open_session(sessions, "s_1")
    processes = [sessions_of(database) for _ in range(4)]
    await asyncio.gather(
        *(processes[number % 4].commit(token_of("s_1"), applying(number)) for number in range(40)),
        processes[0].close("acme", "s_1", partial(close, context=new(LATER))),
    )
    numbers = [int(str(one.data["sequence"])) for one in await events(database)]
    assert len(numbers) > 5
    assert all(one < other for one, other in pairwise(numbers))
    known = await sessions.find("acme", "s_1")
    assert known is not None
    assert known.sequence == numbers[-1]


async def test_a_crash_of_a_commit_uses_no_number(
    database: SqlStore, sessions: SqlCourseSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_session(sessions, "s_1")

    async def crash(*_: object) -> None:
        raise ConnectionResetError("the process died before its transaction ended")

    with monkeypatch.context() as patch:
        patch.setattr(sessions.states, "store", crash)
        with pytest.raises(Exception, match="the process died"):
            await sessions.commit(token_of("s_1"), applying(1))
    assert [one.type for one in await events(database)] == ["session.launched"]
    await sessions.commit(token_of("s_1"), applying(2))
    assert [one.data["sequence"] for one in await events(database)] == [1, 2]


async def test_a_session_ends_when_its_last_url_does(database: SqlStore, sessions: SqlCourseSessions) -> None:
    await open_session(sessions, "s_1")
    further = CommitUrl("f" * 64, "acme", "s_1", ENDS_AT + timedelta(hours=1))
    session = CourseSession("acme", "s_1", "pkg_1", "Ada", NOON, further.expires_at)
    await sessions.open(launch(session, new()), further, lambda known: None)
    assert await end(sessions) is None
    assert await end(sessions, at=further.expires_at) == "acme"
    assert await ended(database) == ["s_1"]


async def test_sweeps_at_once_end_each_session_once(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(30):
        await open_session(sessions, f"s_{number}")
    closing = [sessions.close("acme", f"s_{number}", partial(close, context=new(LATER))) for number in range(0, 30, 3)]
    await asyncio.gather(*closing, *(end(sessions_of(database), limit=7) for _ in range(8)))
    while await end(sessions) is not None:
        pass
    found = await ended(database)
    assert (len(found), len(set(found))) == (30, 30)


async def test_an_end_goes_on_after_a_crash(
    database: SqlStore, sessions: SqlCourseSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await open_session(sessions, f"s_{number}")
    with monkeypatch.context() as patch:
        patch.setattr(sessions._events, "store", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await end(sessions, limit=2)
    assert await ended(database) == []
    assert [await end(sessions_of(database), limit=2) for _ in range(3)] == ["acme", "acme", None]
    assert sorted(await ended(database)) == ["s_0", "s_1", "s_2"]


async def test_accounts_take_turns_with_their_ends(database: SqlStore, sessions: SqlCourseSessions) -> None:
    for number in range(6):
        await open_session(sessions, f"a_{number}", "acme", ENDS_AT - timedelta(minutes=1))
    key = ApiKey("key_2", "globex", "first", "sk_", "other hash", NOON)
    await SqlAccounts(database.database).add(Account("globex", "Globex", (), NOON), key)
    await open_session(sessions, "g_1", "globex")
    account, accounts = "", list[str | None]()
    for _ in range(6):
        account_id = await end(sessions, account, limit=2)
        accounts.append(account_id)
        account = account_id or ""
    assert accounts == ["acme", "globex", None, "acme", None, "acme"]
    assert len(await ended(database)) == 7


async def test_a_session_is_kept_until_it_ended(database: SqlStore, sessions: SqlCourseSessions) -> None:
    await open_session(sessions, "s_1")
    pruning = SqlPruning(database.database)
    assert (await pruning.prune(Prunable.COURSE_SESSIONS, LATER, 10)).rows == 0
    await end(sessions)
    assert (await pruning.prune(Prunable.COURSE_SESSIONS, LATER, 10)).rows == 1


async def test_a_session_of_an_older_release_has_no_end(database: SqlStore, sessions: SqlCourseSessions) -> None:
    await open_session(sessions, "s_1")
    async with database.database.transaction() as connection:
        await connection.execute(text("UPDATE course_sessions SET end_due_at = NULL, sequence = 0"))
    assert await end(sessions) is None
    assert await sessions.commit(token_of("s_1"), applying(1))
    assert (await events(database))[-1].data["sequence"] == 1


async def test_a_look_for_ends_uses_the_index(database: SqlStore, sessions: SqlCourseSessions) -> None:
    await open_session(sessions, "s_1")
    with plans(database, "ORDER BY accounts.id") as found:
        await end(sessions)
    assert "ix_course_sessions_ends" in found[0], found[0]
