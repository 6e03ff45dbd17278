"""What a commit reports: each transition once a session, whatever the order and however often."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.features.course_sessions.changes import EventContext, apply_commit
from streams.features.course_sessions.commit import (
    MAX_FIRST_SEQUENCES,
    MAX_NEWEST_SEQUENCES,
    Completion,
    PlayerCommit,
    Score,
    SequenceLog,
    Success,
)
from streams.features.course_sessions.progress import (
    TRANSITIONS,
    Achievement,
    CommitEffect,
    Progress,
    Reported,
    apply,
    new_progress,
)
from streams.features.course_sessions.scorm_time import format_length, parse_length
from streams.features.course_sessions.session import CourseSession

pytestmark = pytest.mark.slow

PASSED = PlayerCommit(lesson_status="passed")
COMPLETED = PlayerCommit(lesson_status="completed")
SCORED = PlayerCommit(score=Score(raw=85.0, max=100.0))


def reported(*commits: PlayerCommit, progress: Progress | None = None) -> list[str]:
    """What each commit reports, if no score waits: `s` for scored, `c` for completed."""
    progress, found = progress or Progress(), []
    for one in commits:
        progress, is_completed, *_ = apply(progress, one)
        is_scored = progress.has_new_score
        if is_scored:
            progress = progress.with_score_reported()
        found.append("s" * is_scored + "c" * is_completed)
    return found


# -- statuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "completion", "success"),
    [
        ("passed", Completion.COMPLETED, Success.PASSED),
        ("completed", Completion.COMPLETED, Success.UNKNOWN),
        ("failed", Completion.INCOMPLETE, Success.FAILED),
        ("incomplete", Completion.INCOMPLETE, Success.UNKNOWN),
        ("browsed", Completion.INCOMPLETE, Success.UNKNOWN),
        ("not attempted", Completion.NOT_ATTEMPTED, Success.UNKNOWN),
        ("done", Completion.UNKNOWN, Success.UNKNOWN),
    ],
)
def test_a_status_of_scorm_1_2_means_two(status: str, completion: Completion, success: Success) -> None:
    progress = apply(Progress(), PlayerCommit(lesson_status=status)).progress
    assert (progress.completion, progress.success) == (completion, success)


def test_the_course_is_taken_at_its_word() -> None:
    commit = PlayerCommit(
        course_completion=Completion.INCOMPLETE,
        course_success=Success.UNKNOWN,
        lesson_status="passed",
        progress_measure=1.0,
        completion_threshold=0.5,
    )
    assert reported(commit) == [""]


def test_measures_overrule_the_word_of_a_2004_course() -> None:
    low = PlayerCommit(completion_status=Completion.COMPLETED, progress_measure=0.4, completion_threshold=0.5)
    # Only the measure is reported: the threshold is remembered.
    high = PlayerCommit(progress_measure=0.5)
    assert reported(low, high) == ["", "c"]
    failed = PlayerCommit(success_status=Success.PASSED, score=Score(scaled=0.7), scaled_passing_score=0.8)
    passed = PlayerCommit(score=Score(scaled=0.8))
    assert reported(failed, passed) == ["s", "sc"]


def test_without_both_measures_the_word_of_a_2004_course_stands() -> None:
    assert reported(PlayerCommit(completion_status=Completion.COMPLETED, progress_measure=0.1)) == ["c"]
    assert reported(PlayerCommit(success_status=Success.PASSED, scaled_passing_score=0.9)) == ["c"]


def test_a_commit_without_a_status_changes_none() -> None:
    step = apply(apply(Progress(), PASSED).progress, PlayerCommit(session_time=Decimal(9)))
    assert (step.progress.completion, step.progress.success) == (Completion.COMPLETED, Success.PASSED)


# -- what is reported ----------------------------------------------------------------------------------------------


def test_each_transition_is_reported_once() -> None:
    assert reported(COMPLETED, PASSED, COMPLETED, PASSED) == ["c", "c", "", ""]
    assert reported(PASSED, PlayerCommit(lesson_status="failed"), PASSED) == ["c", "", ""]


def test_what_was_known_at_launch_is_not_reported_again() -> None:
    known = new_progress(Completion.COMPLETED, Success.UNKNOWN, Score(raw=85.0, max=100.0), Decimal(60))
    assert reported(COMPLETED, SCORED, PASSED, PASSED, progress=known) == ["", "", "c", ""]
    known = new_progress(Completion.COMPLETED, Success.PASSED, Score(), Decimal())
    assert reported(PlayerCommit(lesson_status="incomplete"), PASSED, progress=known) == ["", ""]


def test_a_changed_score_is_reported() -> None:
    again = PlayerCommit(score=Score(raw=85.0, max=100.0))
    higher_max = PlayerCommit(score=Score(max=200.0))
    assert reported(SCORED, again, higher_max, PlayerCommit(score=Score(raw=0.0)), PlayerCommit()) == [
        "s",
        "",
        "s",
        "s",
        "",
    ]


def test_an_event_has_every_part_of_the_score() -> None:
    session = CourseSession("acme", "sess_1", "pkg_1", "ada", NOON, NOON + timedelta(hours=1))
    commit = PlayerCommit(score=Score(raw=85.0, min=0.0, max=100.0, scaled=0.85))
    [(event, _)] = apply_commit(session, commit, EventContext(NOON, lambda: "evt_1")).events
    assert (event.type, event.data) == (
        "session.scored",
        {
            "sessionId": "sess_1",
            "packageId": "pkg_1",
            "learnerId": "ada",
            "scoreRaw": 85.0,
            "scoreMin": 0.0,
            "scoreMax": 100.0,
            "scoreScaled": 0.85,
            "sequence": 1,
        },
    )


def test_an_earlier_success_is_known_at_the_launch() -> None:
    assert new_progress(Completion.UNKNOWN, Success.PASSED, Score(), Decimal()).success is Success.PASSED


def test_bounds_alone_are_no_score() -> None:
    assert reported(PlayerCommit(score=Score(min=0.0, max=100.0))) == [""]


@pytest.mark.parametrize(
    "news", [PlayerCommit(mode="browse"), PlayerCommit(mode="review"), PlayerCommit(credit="no-credit")]
)
def test_what_is_not_for_the_record_is_not_reported(news: PlayerCommit) -> None:
    assert reported(news, PASSED, SCORED) == ["", "", ""]


def test_the_table_has_every_state_and_every_news() -> None:
    assert TRANSITIONS.keys() == {(state, news) for state in Reported for news in Achievement}


# -- time ------------------------------------------------------------------------------------------------------


def test_the_total_time_is_the_newest_that_was_reported() -> None:
    progress = new_progress(Completion.UNKNOWN, Success.UNKNOWN, Score(), Decimal(100))
    times = []
    for commit in (
        PlayerCommit(),
        PlayerCommit(session_time=Decimal(20)),
        PlayerCommit(),
        PlayerCommit(total_time=Decimal(90)),
        PlayerCommit(session_time=Decimal(0)),
    ):
        progress = apply(progress, commit).progress
        times.append(int(progress.total_time))
    assert times == [100, 120, 120, 90, 100]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:12:30.5", "750.5"),
        ("9999:99:99.99", "36002439.99"),
        ("1:2:3", "3723"),
        ("PT12M30.5S", "750.5"),
        ("P1DT1H", "90000"),
        ("P1M", "2592000"),
        ("P1Y", "31536000"),
        ("PT0H0M0S", "0"),
        ("PT90M", "5400"),
    ],
)
def test_a_length_of_time_is_read(text: str, seconds: str) -> None:
    assert parse_length(text) == Decimal(seconds)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "12:30", "-00:01:00", "PT-5S", "P1W", "P999Y", "PT1e5S", "1:2:3\n", "٣:00:00"]
)
def test_what_is_no_length_of_time_is_no_news(text: str) -> None:
    assert parse_length(text) is None


@given(st.decimals(0, 10**9, places=6))
def test_a_length_of_time_survives_its_format(seconds: Decimal) -> None:
    text = format_length(seconds)
    assert parse_length(text) == seconds
    assert len(text) <= 64


def test_a_length_of_time_is_short() -> None:
    lengths = [format_length(Decimal(one)) for one in ("0", "60", "750.5", "3600", "3723.25", "7260", "0.1")]
    assert lengths == ["PT0S", "PT1M", "PT12M30.5S", "PT1H", "PT1H2M3.25S", "PT2H1M", "PT0.1S"]


# -- sequences -------------------------------------------------------------------------------------------------


def numbered(number: int, commit: PlayerCommit, digest: str | None = None) -> PlayerCommit:
    from dataclasses import replace

    return replace(commit, sequence=number, digest=digest or f"{number}")


def test_a_repetition_and_a_late_commit_are_ignored() -> None:
    failed = PlayerCommit(lesson_status="failed")
    assert reported(numbered(2, PASSED), numbered(2, PASSED), numbered(1, SCORED), numbered(3, failed)) == [
        "c",
        "",
        "",
        "",
    ]


def test_a_new_player_counts_again() -> None:
    first = [numbered(one, PlayerCommit()) for one in (1, 2, 3)]
    assert reported(*first, numbered(1, PASSED, "other"), numbered(2, SCORED, "other")) == ["", "", "", "c", "s"]


@given(st.integers(1, 500))
def test_a_new_player_is_recognised_after_any_number_of_commits(count: int) -> None:
    log = SequenceLog()
    for number in range(1, count + 1):
        assert not log.is_stale(number, f"old {number}")
        log = log.with_commit(number, f"old {number}")
    assert len(log.digests) <= MAX_FIRST_SEQUENCES + MAX_NEWEST_SEQUENCES
    assert log.is_stale(count, f"old {count}")
    assert not log.is_stale(1, "new 1")
    log = log.with_commit(1, "new 1")
    assert log.digests == {1: "new 1"}


# -- laws ------------------------------------------------------------------------------------------------------

commits = st.builds(
    PlayerCommit,
    course_completion=st.none() | st.sampled_from(Completion),
    course_success=st.none() | st.sampled_from(Success),
    lesson_status=st.none() | st.sampled_from(["passed", "completed", "failed", "incomplete", "browsed", "odd"]),
    completion_status=st.none() | st.sampled_from(Completion),
    success_status=st.none() | st.sampled_from(Success),
    progress_measure=st.none() | st.floats(0, 1),
    completion_threshold=st.none() | st.floats(0, 1),
    scaled_passing_score=st.none() | st.floats(-1, 1),
    score=st.builds(Score, raw=st.none() | st.sampled_from([0.0, 60.0]), scaled=st.none() | st.floats(-1, 1)),
    mode=st.none() | st.sampled_from(["normal", "browse"]),
)


@given(st.lists(commits, max_size=12), st.sampled_from(Completion), st.sampled_from(Success))
def test_completed_is_reported_for_each_transition_once(
    sequence: list[PlayerCommit], completion: Completion, success: Success
) -> None:
    progress = new_progress(completion, success, Score(), Decimal())
    reached = {completion} & {Completion.COMPLETED} | {success} & {Success.PASSED}
    for commit in sequence:
        step = apply(progress, commit)
        progress = step.progress
        now = {progress.completion} & {Completion.COMPLETED} | {progress.success} & {Success.PASSED}
        if not progress.is_for_the_record:
            now = set()
        assert step.is_completed == bool(now - reached)
        reached |= now


@given(st.lists(commits, max_size=8))
def test_a_commit_that_comes_twice_tells_once(sequence: list[PlayerCommit]) -> None:
    progress = Progress()
    for commit in sequence:
        progress = apply(progress, commit).progress
        again = apply(progress, commit)
        assert again == CommitEffect(progress)
