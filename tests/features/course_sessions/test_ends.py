"""A session ends once, and a course that takes a result back is reported."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.events.event import Event, check_event
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
from streams.features.course_sessions.progress import new_progress
from streams.features.course_sessions.session import MIN_SCORE_INTERVAL, CourseSession

NUMBERS = count()
ENDS_AT = NOON + timedelta(hours=1)
PASSED = PlayerCommit(lesson_status="passed")
COMPLETED = PlayerCommit(lesson_status="completed")
INCOMPLETE = PlayerCommit(lesson_status="incomplete")
FAILED = PlayerCommit(lesson_status="failed")
REVIEW = PlayerCommit(lesson_status="completed", mode="review")


def new(seconds: float = 0) -> EventContext:
    return EventContext(NOON + timedelta(seconds=seconds), lambda: f"evt_{next(NUMBERS)}")


def session(**fields: Any) -> CourseSession:
    return launch(CourseSession("acme", "sess_1", "pkg_1", "Ada", NOON, ENDS_AT, **fields), new()).session


def play(*commits: PlayerCommit, known: CourseSession | None = None) -> SessionChange:
    """The session after some commits, ten seconds apart, with all their events."""
    change = SessionChange(known or session())
    for number, commit in enumerate(commits, 1):
        made = apply_commit(change.session, commit, new(10 * number))
        change = SessionChange(made.session, [*change.events, *made.events])
    return change


def reported(change: SessionChange) -> list[tuple[str, Any]]:
    """Each event's type, and its data without what all events of the session have."""
    common = {"sessionId", "packageId", "learnerId", "sequence", "metadata"}
    events = [check_event(event, NOON + timedelta(days=1)) for event, _ in change.events]
    return [(one.type, {name: value for name, value in one.data.items() if name not in common}) for one in events]


def end_of(known: CourseSession) -> Any:
    [(event_type, data)] = reported(close(known, new(600)))
    assert event_type == "session.ended"
    return data


# -- session.ended -----------------------------------------------------------------------------------------------


def test_a_session_without_a_commit_said_nothing() -> None:
    assert end_of(session()) == {"reported": "nothing", "completionStatus": "unknown", "successStatus": "unknown"}


@pytest.mark.parametrize(
    ("commit", "reported"),
    [
        (INCOMPLETE, "partly"),
        (PASSED, "completed"),
        (COMPLETED, "completed"),
        (FAILED, "completed"),
        (REVIEW, "nothing"),
    ],
)
def test_the_end_says_how_much_was_reported(commit: PlayerCommit, reported: str) -> None:
    assert end_of(play(commit).session)["reported"] == reported


def test_the_end_has_what_is_known() -> None:
    commit = PlayerCommit(lesson_status="failed", score=Score(raw=40.0, max=100.0), session_time=Decimal(90))
    assert end_of(play(commit).session) == {
        "reported": "completed",
        "completionStatus": "incomplete",
        "successStatus": "failed",
        "scoreRaw": 40.0,
        "scoreMax": 100.0,
        "totalTime": "PT1M30S",
        "lastCommitAt": "2026-04-10T12:00:10Z",
    }


def test_an_earlier_result_is_not_reported_at_the_end() -> None:
    known = new_progress(Completion.COMPLETED, Success.PASSED, Score(raw=90.0), Decimal(60))
    end = end_of(session(progress=known))
    assert (end["reported"], end["completionStatus"], end["scoreRaw"]) == ("nothing", "completed", 90.0)


def test_a_waiting_score_comes_before_the_end() -> None:
    waiting = play(PlayerCommit(score=Score(raw=1.0))).session
    waiting = apply_commit(waiting, PlayerCommit(score=Score(raw=2.0)), new(11)).session
    assert waiting.score_due_at is not None
    for change in (close(waiting, new(12)), end_if_due(waiting, new(3600))):
        assert [(event_type, data.get("scoreRaw")) for event_type, data in reported(change)] == [
            ("session.scored", 2.0),
            ("session.ended", 2.0),
        ]
        assert change.session.score_due_at is None


def test_a_session_ends_once() -> None:
    expired = end_if_due(session(), new(3600))
    assert [event_type for event_type, _ in reported(expired)] == ["session.ended"]
    assert (expired.session.ended_at, expired.session.end_due_at) == (ENDS_AT, None)
    assert reported(end_if_due(expired.session, new(3700))) == []
    closed = close(expired.session, new(3800))
    assert reported(closed) == []
    assert closed.session.closed_at is not None


def test_a_session_with_a_further_url_goes_on() -> None:
    due = end_if_due(session(), new(3599))
    assert (reported(due), due.session.ended_at, due.session.end_due_at) == ([], None, ENDS_AT)


def test_a_late_commit_after_the_end_has_a_higher_sequence() -> None:
    closed = close(session(), new(60))
    late = apply_commit(closed.session, PASSED, new(61))
    [(ended, _)], [(completed, _)] = closed.events, late.events
    assert (ended.data["sequence"], completed.type, completed.data["sequence"]) == (2, "session.completed", 3)


# -- session.reset -----------------------------------------------------------------------------------------------


def test_a_course_that_takes_a_result_back_is_reported() -> None:
    assert reported(play(PASSED, FAILED))[-1] == (
        "session.reset",
        {
            "completionStatus": "incomplete",
            "successStatus": "failed",
            "previousCompletionStatus": "completed",
            "previousSuccessStatus": "passed",
        },
    )


@pytest.mark.parametrize(
    ("commits", "types"),
    [
        ([PASSED, INCOMPLETE, PASSED, INCOMPLETE], ["completed", "reset"]),
        ([COMPLETED, INCOMPLETE, PASSED, INCOMPLETE], ["completed", "reset", "completed", "reset"]),
        ([COMPLETED, PASSED, COMPLETED], ["completed", "completed", "reset"]),
        ([INCOMPLETE, FAILED], []),
        ([PASSED, PlayerCommit(lesson_status="incomplete", mode="browse")], ["completed"]),
    ],
)
def test_each_result_is_taken_back_once(commits: Sequence[PlayerCommit], types: Sequence[str]) -> None:
    assert [event_type.removeprefix("session.") for event_type, _ in reported(play(*commits))] == types


def test_what_was_known_at_the_launch_can_be_taken_back() -> None:
    known = new_progress(Completion.COMPLETED, Success.UNKNOWN, Score(), Decimal())
    assert [event_type for event_type, _ in reported(play(INCOMPLETE, known=session(progress=known)))] == [
        "session.reset"
    ]


def test_a_completion_says_what_was_before() -> None:
    first, second = reported(play(COMPLETED, PASSED))
    assert "previousCompletionStatus" not in first[1]
    assert second[1]["previousCompletionStatus"] == "completed"
    assert "previousSuccessStatus" not in second[1]


# -- metadata -------------------------------------------------------------------------------------------------


def test_each_event_has_the_metadata() -> None:
    known = launch(session(metadata={"department": "sales"}), new())
    events = [event for event, _ in [*known.events, *play(PASSED, FAILED, known=known.session).events]]
    assert [event.data["metadata"] for event in events] == [{"department": "sales"}] * 3


# -- sequence ----------------------------------------------------------------------------------------------------

COMMITS = st.builds(
    PlayerCommit,
    lesson_status=st.sampled_from(["passed", "completed", "failed", "incomplete", None]),
    score=st.builds(Score, raw=st.sampled_from([None, 1.0, 2.0, 3.0])),
)


@given(st.lists(st.tuples(COMMITS, st.integers(-5, 20)), max_size=20), st.booleans())
def test_the_sequence_rises_with_each_event(commits: list[tuple[PlayerCommit, int]], is_closed: bool) -> None:
    change, at, events = launch(session(), new()), 0, list[Event]()
    for commit, seconds in commits:
        events += [event for event, _ in change.events]
        at += seconds
        change = apply_commit(change.session, commit, new(at))
        if seconds > MIN_SCORE_INTERVAL.seconds:
            events += [event for event, _ in change.events]
            change = report_score(change.session, new(at))
    events += [event for event, _ in change.events]
    events += [event for event, _ in (close if is_closed else end_if_due)(change.session, new(3600)).events]
    numbers = [int(str(event.data["sequence"])) for event in events]
    assert all(one < other for one, other in pairwise(numbers))
    assert len({event.id for event in events}) == len(events)
    ends = [event for event in events if event.type == "session.ended"]
    assert len(ends) == 1
    assert ends[0] is events[-1]
