"""Sessions of SCORM courses: a learner in a course, from its launch to its close."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.access import digest
from streams.core.commit import Commit, Score
from streams.core.course_progress import Progress, after
from streams.core.event import Event
from streams.core.scorm_time import format_length
from streams.core.usage import LAUNCHED

# A closed tab sends its last commit when the platform may have closed the session already.
GRACE = timedelta(minutes=15)
SCORED, COMPLETED = "session.scored", "session.completed"
# As many as a person looks at; the deliveries of a session find all.
EVENTS_KEPT = 20


class SessionEvent(NamedTuple):
    """An event that a session has caused."""

    id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CourseSession:
    """A session of an account. `events` are its newest; `sent_at` is the place of the last one among what is sent."""

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

    def with_event(self, event: Event, now: datetime) -> "Change":
        """The session with an event that it has caused. Each is sent after the ones before, whatever the clock does."""
        sent_at = now if self.sent_at is None else max(now, self.sent_at + timedelta(microseconds=1))
        newest = (*self.events, SessionEvent(event.id, event.type, event.occurred_at))[-EVENTS_KEPT:]
        return Change(replace(self, events=newest, sent_at=sent_at), [(event, sent_at)])


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


class Change(NamedTuple):
    """A session, with the events to send and the times that order them."""

    session: CourseSession
    events: Sequence[tuple[Event, datetime]] = ()


def launch(session: CourseSession, now: datetime, event_id: str) -> Change:
    """Launch a new session."""
    return session.with_event(_event(session, event_id, LAUNCHED, session.launched_at, {}), now)


def apply_commit(session: CourseSession, commit: Commit, now: datetime, new_id: Callable[[], str]) -> Change:
    """Apply a commit. `new_id` makes ids of events."""
    step = after(session.progress, commit)
    session = replace(session, progress=step.progress, last_commit_at=now)
    events: list[tuple[Event, datetime]] = []
    # Scored comes before completed.
    data = [(SCORED, _score(step.progress.score))] * step.is_scored + [
        (COMPLETED, _result(step.progress))
    ] * step.is_completed
    for event_type, details in data:
        session, sent = session.with_event(_event(session, new_id(), event_type, now, details), now)
        events += sent
    return Change(session, events)


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
