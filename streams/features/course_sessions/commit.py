"""A commit: a SCORM player's report on a session in one request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple


class Completion(StrEnum):
    """Whether the learner has completed the course."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    NOT_ATTEMPTED = "not attempted"
    UNKNOWN = "unknown"


class Success(StrEnum):
    """Whether the learner has mastered the course."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Score(NamedTuple):
    """A course's score; each part may be absent. `scaled` is from -1 to 1."""

    raw: float | None = None
    min: float | None = None
    max: float | None = None
    scaled: float | None = None

    @property
    def has_value(self) -> bool:
        """SCORM 1.2's `max` is 100 by default: `max` or `min` alone is not a score."""
        return self.raw is not None or self.scaled is not None

    def merge(self, newer: "Score") -> "Score":
        """This score, updated with the parts of a newer one."""
        return Score(*(old if new is None else new for old, new in zip(self, newer, strict=True)))


NO_SCORE = Score()


@dataclass(frozen=True, slots=True)
class PlayerCommit:
    """The report of one request; None means that it says nothing.

    `course_completion` and `course_success` speak for the course and are accepted as given. `lesson_status` is SCORM
    1.2's. The other two statuses are SCORM 2004's, and the three measures may overrule them. Times are seconds.
    `sequence` counts the commits of one player instance; `digest` identifies the request's bytes. `data` is the JSON
    object with all elements of the course, if the player sent one.
    """

    course_completion: Completion | None = None
    course_success: Success | None = None
    lesson_status: str | None = None
    completion_status: Completion | None = None
    success_status: Success | None = None
    progress_measure: float | None = None
    completion_threshold: float | None = None
    scaled_passing_score: float | None = None
    score: Score = NO_SCORE
    session_time: Decimal | None = None
    total_time: Decimal | None = None
    mode: str | None = None
    credit: str | None = None
    sequence: int | None = None
    digest: str = ""
    data: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)


# SCORM 1.2 has one status for both (RTE 1.2 §3.4.4). A failed course may be unfinished, so it is not completed.
LESSON_STATUSES: Mapping[str, tuple[Completion, Success]] = {
    "passed": (Completion.COMPLETED, Success.PASSED),
    "completed": (Completion.COMPLETED, Success.UNKNOWN),
    "failed": (Completion.INCOMPLETE, Success.FAILED),
    "incomplete": (Completion.INCOMPLETE, Success.UNKNOWN),
    "browsed": (Completion.INCOMPLETE, Success.UNKNOWN),
    "not attempted": (Completion.NOT_ATTEMPTED, Success.UNKNOWN),
}

MAX_FIRST_SEQUENCES = 64
MAX_NEWEST_SEQUENCES = 16


@dataclass(frozen=True, slots=True)
class SequenceLog:
    """The commits seen from one player instance, as digests by sequence number.

    The first 64 and the newest 16 are kept. A new instance restarts its count, so one of the first shows it. A repeated
    commit between them is late, and is ignored like any repetition.
    """

    digests: Mapping[int, str] = field(default_factory=dict)

    def is_stale(self, number: int, digest: str) -> bool:
        """Whether this commit is a repetition or too late."""
        if number in self.digests:
            return self.digests[number] == digest
        return bool(self.digests) and number < max(self.digests)

    def with_commit(self, number: int, digest: str) -> "SequenceLog":
        """The log with this commit. The same number with other bytes is a new instance, which begins a new log."""
        if self.digests.get(number, digest) != digest:
            return SequenceLog({number: digest})
        digests = {**self.digests, number: digest}
        sequence_numbers = sorted(digests)
        kept_numbers = {*sequence_numbers[:MAX_FIRST_SEQUENCES], *sequence_numbers[-MAX_NEWEST_SEQUENCES:]}
        return SequenceLog(
            {kept_number: digests[kept_number] for kept_number in sequence_numbers if kept_number in kept_numbers}
        )
