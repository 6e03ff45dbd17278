"""A learner's progress in a session, and which changes of a commit are reported: a state machine without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from streams.core.limits import MAX_SCORES_PER_SESSION
from streams.features.course_sessions.commit import (
    LESSON_STATUSES,
    NO_SCORE,
    Completion,
    PlayerCommit,
    Score,
    SequenceLog,
    Success,
)
from streams.features.course_sessions.scorm_time import to_seconds


class Reported(StrEnum):
    """Which of completion and pass were reported, in this session or before it was launched."""

    NOTHING = "nothing"
    COMPLETED = "completed"
    PASSED = "passed"
    BOTH = "both"


class Achievement(StrEnum):
    """What a commit says about completion and pass."""

    COMPLETED = "completed"
    PASSED = "passed"
    BOTH = "completed and passed"


# (reported, news) -> (reported after it, whether an event reports it). Each status is reported once.
TRANSITIONS: Mapping[tuple[Reported, Achievement], tuple[Reported, bool]] = {
    (Reported.NOTHING, Achievement.COMPLETED): (Reported.COMPLETED, True),
    (Reported.NOTHING, Achievement.PASSED): (Reported.PASSED, True),
    (Reported.NOTHING, Achievement.BOTH): (Reported.BOTH, True),
    (Reported.COMPLETED, Achievement.COMPLETED): (Reported.COMPLETED, False),
    (Reported.COMPLETED, Achievement.PASSED): (Reported.BOTH, True),
    (Reported.COMPLETED, Achievement.BOTH): (Reported.BOTH, True),
    (Reported.PASSED, Achievement.COMPLETED): (Reported.BOTH, True),
    (Reported.PASSED, Achievement.PASSED): (Reported.PASSED, False),
    (Reported.PASSED, Achievement.BOTH): (Reported.BOTH, True),
    (Reported.BOTH, Achievement.COMPLETED): (Reported.BOTH, False),
    (Reported.BOTH, Achievement.PASSED): (Reported.BOTH, False),
    (Reported.BOTH, Achievement.BOTH): (Reported.BOTH, False),
}
_ACHIEVEMENTS = {
    (True, False): Achievement.COMPLETED,
    (False, True): Achievement.PASSED,
    (True, True): Achievement.BOTH,
}
_REPORTED = {
    (False, False): Reported.NOTHING,
    (True, False): Reported.COMPLETED,
    (False, True): Reported.PASSED,
    (True, True): Reported.BOTH,
}

# Modes without credit: nothing is reported (RTE 1.2 §3.4.4; RTE 2004 §4.2.12).
_MODES_WITHOUT_RECORD = frozenset({"browse", "review"})


@dataclass(frozen=True, slots=True)
class Progress:
    """The known state of a session. `known_score` is the last reported score, or the one known at launch.

    `scores_reported` counts reported scores. The two resets say that the course took back a reported status.
    """

    completion: Completion = Completion.UNKNOWN
    success: Success = Success.UNKNOWN
    score: Score = NO_SCORE
    known_score: Score = NO_SCORE
    launch_time: Decimal = Decimal()
    total_time: Decimal = Decimal()
    reported: Reported = Reported.NOTHING
    progress_measure: float | None = None
    completion_threshold: float | None = None
    scaled_passing_score: float | None = None
    mode: str | None = None
    credit: str | None = None
    sequences: SequenceLog = field(default_factory=SequenceLog)
    scores_reported: int = 0
    has_completion_reset: bool = False
    has_pass_reset: bool = False

    @property
    def is_for_the_record(self) -> bool:
        return self.mode not in _MODES_WITHOUT_RECORD and self.credit != "no-credit"

    @property
    def has_new_score(self) -> bool:
        """Whether the session has a score to report."""
        is_new = self.score.has_value and self.score != self.known_score
        return is_new and self.is_for_the_record and self.scores_reported < MAX_SCORES_PER_SESSION

    def with_launch_time(self, total_time: Decimal) -> "Progress":
        """Begin at this total time, unless one is known."""
        return self if self.launch_time else replace(self, launch_time=total_time, total_time=total_time)

    def with_score_reported(self) -> "Progress":
        return replace(self, known_score=self.score, scores_reported=self.scores_reported + 1)


def new_progress(completion: Completion, success: Success, score: Score, total_time: Decimal) -> Progress:
    """The progress of a new session; statuses from earlier sessions count as reported."""
    return Progress(
        completion=completion,
        success=success,
        score=score,
        known_score=score,
        launch_time=total_time,
        total_time=total_time,
        reported=_REPORTED[completion is Completion.COMPLETED, success is Success.PASSED],
    )


def continue_progress(progress: Progress) -> Progress:
    """The progress of a new session that continues an earlier one's progress."""
    return new_progress(progress.completion, progress.success, progress.score, progress.total_time)


class CommitEffect(NamedTuple):
    """The progress after a commit, and whether it reports a completion, or takes one back."""

    progress: Progress
    is_completed: bool = False
    is_reset: bool = False
    is_stale: bool = False


def apply(progress: Progress, commit: PlayerCommit) -> CommitEffect:
    """Apply one commit. A stale commit changes nothing."""
    if commit.sequence is not None:
        if progress.sequences.is_stale(commit.sequence, commit.digest):
            return CommitEffect(progress, is_stale=True)
        progress = replace(progress, sequences=progress.sequences.with_commit(commit.sequence, commit.digest))
    previous, progress = progress, _merge(progress, commit)
    progress = replace(progress, completion=_completion(progress, commit), success=_success(progress, commit))
    if not progress.is_for_the_record:
        return CommitEffect(progress)
    with_resets = _with_resets(previous, progress)
    return _report(with_resets)._replace(is_reset=with_resets != progress)


def _merge(progress: Progress, commit: PlayerCommit) -> Progress:
    return replace(
        progress,
        score=progress.score.merge(commit.score),
        total_time=_total_time(progress, commit),
        progress_measure=_newer(progress.progress_measure, commit.progress_measure),
        completion_threshold=_newer(progress.completion_threshold, commit.completion_threshold),
        scaled_passing_score=_newer(progress.scaled_passing_score, commit.scaled_passing_score),
        mode=commit.mode or progress.mode,
        credit=commit.credit or progress.credit,
    )


def _newer(old: float | None, new: float | None) -> float | None:
    return old if new is None else new


def _total_time(progress: Progress, commit: PlayerCommit) -> Decimal:
    if commit.total_time is not None:
        return commit.total_time
    if commit.session_time is None:
        return progress.total_time
    total = to_seconds(progress.launch_time + commit.session_time)
    return progress.total_time if total is None else total


def _completion(progress: Progress, commit: PlayerCommit) -> Completion:
    if commit.course_completion is not None:
        return commit.course_completion
    if status := LESSON_STATUSES.get(commit.lesson_status or ""):
        return status[0]
    # RTE 2004 §4.2.4.1: with both values the measure decides, whatever the course says.
    measure, threshold = progress.progress_measure, progress.completion_threshold
    if measure is not None and threshold is not None:
        news = commit.completion_status, commit.progress_measure, commit.completion_threshold
        if any(value is not None for value in news):
            return Completion.COMPLETED if measure >= threshold else Completion.INCOMPLETE
    return commit.completion_status or progress.completion


def _success(progress: Progress, commit: PlayerCommit) -> Success:
    if commit.course_success is not None:
        return commit.course_success
    if status := LESSON_STATUSES.get(commit.lesson_status or ""):
        return status[1]
    # RTE 2004 §4.2.22.1: with both values the score decides, whatever the course says.
    scaled, passing_score = progress.score.scaled, progress.scaled_passing_score
    if scaled is not None and passing_score is not None:
        news = commit.success_status, commit.score.scaled, commit.scaled_passing_score
        if any(value is not None for value in news):
            return Success.PASSED if scaled >= passing_score else Success.FAILED
    return commit.success_status or progress.success


def _with_resets(previous: Progress, progress: Progress) -> Progress:
    """Note a status that the course took back. Each status is noted once, just as it is reported once."""
    is_incomplete = previous.completion is Completion.COMPLETED and progress.completion is not Completion.COMPLETED
    is_not_passed = previous.success is Success.PASSED and progress.success is not Success.PASSED
    return replace(
        progress,
        has_completion_reset=progress.has_completion_reset or is_incomplete,
        has_pass_reset=progress.has_pass_reset or is_not_passed,
    )


def _report(progress: Progress) -> CommitEffect:
    news = _ACHIEVEMENTS.get((progress.completion is Completion.COMPLETED, progress.success is Success.PASSED))
    if news is None:
        return CommitEffect(progress)
    reported, is_completed = TRANSITIONS[progress.reported, news]
    return CommitEffect(replace(progress, reported=reported), is_completed)
