"""Sessions of SCORM courses: a learner in a course, from its launch to its close."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.access import digest
from streams.core.event import Event
from streams.core.limits import SCORES_PER_SESSION
from streams.core.usage import LAUNCHED
from streams.features.course_sessions.commit import PlayerCommit, Score
from streams.features.course_sessions.progress import Progress, after
from streams.features.course_sessions.scorm_time import format_length

# A closed tab sends its last commit when the platform may have closed the session already.
GRACE = timedelta(minutes=15)
SCORED, COMPLETED = "session.scored", "session.completed"
# As many as a person looks at; the deliveries of a session find all.
EVENTS_KEPT = 20
# A course may commit each change of its score: the newest one is reported at most this often.
SCORE_EVERY = timedelta(seconds=5)


class SessionEvent(NamedTuple):
    """An event that a session has caused."""

    id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CourseSession:
    """A session of an account. `events` are its newest; `sent_at` is the place of the last one among what is sent.

    `score_due_at` is when its newest score is to be reported; None while there is no new one.
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

    def next_score_at(self, now: datetime) -> datetime:
        """When a score may be reported, so that there is at most one within `SCORE_EVERY`."""
        if self.score_due_at is not None:
            return self.score_due_at
        reported = [one.at for one in self.events if one.type == SCORED]
        # The last one may have the time of another clock, which is ahead.
        return min(reported[-1], now) + SCORE_EVERY if reported else now

    def with_event(self, event: Event, now: datetime) -> "SessionChange":
        """The session with an event that it has caused. Each is sent after the ones before, whatever the clock does."""
        sent_at = now if self.sent_at is None else max(now, self.sent_at + timedelta(microseconds=1))
        newest = (*self.events, SessionEvent(event.id, event.type, event.occurred_at))[-EVENTS_KEPT:]
        return SessionChange(replace(self, events=newest, sent_at=sent_at), [(event, sent_at)])


@dataclass(frozen=True, slots=True)
class CommitUrl:
    """The end of a commit URL as it is stored: the hash of its token."""

    token_sha256: str
    account_id: str
    session_id: str
    expires_at: datetime

    def ends_at(self, closed_at: datetime | None) -> datetime:
        """When it stops to take commits."""
        return self.expires_at if closed_at is None else min(self.expires_at, closed_at + GRACE)


def token_hash(token: str) -> str:
    """The stored hash of a commit URL's token."""
    return digest(token)


class SessionChange(NamedTuple):
    """A session, with the events to send and the times that order them."""

    session: CourseSession
    events: Sequence[tuple[Event, datetime]] = ()


def launch(session: CourseSession, now: datetime, event_id: str) -> SessionChange:
    """Launch a new session."""
    return session.with_event(_event(session, event_id, LAUNCHED, session.launched_at, {}), now)


def apply_commit(
    session: CourseSession, commit: PlayerCommit, now: datetime, new_id: Callable[[], str]
) -> SessionChange:
    """Apply a commit. A score may wait for newer ones; a completion never waits. `new_id` makes ids of events."""
    step = after(session.progress, commit)
    session = replace(session, progress=step.progress, last_commit_at=now)
    if not step.is_completed and now < (due_at := session.next_score_at(now)):
        return SessionChange(replace(session, score_due_at=due_at if step.progress.has_new_score else None))
    session, scored = report_score(session, now, new_id)
    if not step.is_completed:
        return SessionChange(session, scored)
    session, completed = session.with_event(_event(session, new_id(), COMPLETED, now, _result(step.progress)), now)
    return SessionChange(session, [*scored, *completed])


def report_score(session: CourseSession, now: datetime, new_id: Callable[[], str]) -> SessionChange:
    """Report the newest score, if there is a new one."""
    session = replace(session, score_due_at=None)
    if not session.progress.has_new_score:
        return SessionChange(session)
    event = _event(session, new_id(), SCORED, now, _score(session.progress.score))
    return replace(session, progress=session.progress.with_score_reported()).with_event(event, now)


def has_last_score(change: SessionChange) -> bool:
    """Whether it reports the last score that its session may report."""
    is_last = change.session.progress.scores_reported == SCORES_PER_SESSION
    return is_last and any(event.type == SCORED for event, _ in change.events)


def _result(progress: Progress) -> dict[str, str | float]:
    return {
        "completionStatus": progress.completion.value,
        "successStatus": progress.success.value,
        **(_score(progress.score) if progress.score.exists else {}),
        "totalTime": format_length(progress.total_time),
    }


def _score(score: Score) -> dict[str, str | float]:
    parts = {"scoreRaw": score.raw, "scoreMin": score.min, "scoreMax": score.max, "scoreScaled": score.scaled}
    return {name: value for name, value in parts.items() if value is not None}


def _event(session: CourseSession, event_id: str, event_type: str, at: datetime, data: dict[str, str | float]) -> Event:
    subjects = {"sessionId": session.id, "packageId": session.package_id, "dispatchId": session.dispatch_id}
    data = {
        **{name: value for name, value in subjects.items() if value is not None},
        "learnerId": session.learner_id,
        **data,
    }
    return Event(event_id, event_type, session.account_id, at, data)
