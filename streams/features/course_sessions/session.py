"""Sessions of SCORM courses: a learner in a course, from its launch to its close."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.accounts.access import digest
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.progress import Progress

# A closed tab may send its last commit after the platform has closed the session.
LATE_COMMIT_GRACE = timedelta(minutes=15)
SCORED_TYPE = "session.scored"
# The number shown on a page; the deliveries of a session show all events.
MAX_SESSION_EVENTS = 20
# A course may commit each change of its score: the newest one is reported at most this often.
MIN_SCORE_INTERVAL = timedelta(seconds=5)


class SessionEvent(NamedTuple):
    """An event that a session has caused."""

    id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CourseSession:
    """A session of an account. `events` are its newest events; `sent_at` orders the last one among all sent events.

    `score_due_at` is when its newest score must be reported; None while there is no new score. `sequence` is the number
    of its newest event. `end_due_at` is when its end must be reported; None after that. `stored_state` is None if the
    player's state is not wanted.
    """

    account_id: str
    id: str
    package_id: str
    learner_id: str
    launched_at: datetime
    expires_at: datetime
    dispatch_id: str | None = None
    progress: Progress = field(default_factory=Progress)
    events: tuple[SessionEvent, ...] = ()
    sent_at: datetime | None = None
    last_commit_at: datetime | None = None
    closed_at: datetime | None = None
    score_due_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 0
    end_due_at: datetime | None = None
    ended_at: datetime | None = None
    stored_state: StoreResult | None = None

    def next_score_at(self, now: datetime) -> datetime:
        """When a score may be reported, so that there is at most one within `MIN_SCORE_INTERVAL`."""
        if self.score_due_at is not None:
            return self.score_due_at
        score_times = [event.at for event in self.events if event.type == SCORED_TYPE]
        # The last score may have the time of another clock, which is ahead.
        return min(score_times[-1], now) + MIN_SCORE_INTERVAL if score_times else now


@dataclass(frozen=True, slots=True)
class CommitUrl:
    """The end of a commit URL as it is stored: the hash of its token."""

    token_sha256: str
    account_id: str
    session_id: str
    expires_at: datetime

    def ends_at(self, closed_at: datetime | None) -> datetime:
        """When the URL stops accepting commits."""
        return self.expires_at if closed_at is None else min(self.expires_at, closed_at + LATE_COMMIT_GRACE)


def token_hash(token: str) -> str:
    """The stored hash of a commit URL's token."""
    return digest(token)
