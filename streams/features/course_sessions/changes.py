"""Changes of a session and the events that they cause: no I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.accounts.usage import LAUNCHED_TYPE
from streams.core.events.event import Data, Event
from streams.core.limits import MAX_SCORES_PER_SESSION
from streams.core.times import format_time
from streams.features.course_sessions.commit import Completion, PlayerCommit, Score, Success
from streams.features.course_sessions.player_state import StoreResult, has_state, to_player_state
from streams.features.course_sessions.progress import CommitEffect, Progress, apply
from streams.features.course_sessions.scorm_time import format_length
from streams.features.course_sessions.session import MAX_SESSION_EVENTS, SCORED_TYPE, CourseSession, SessionEvent

COMPLETED_TYPE = "session.completed"
ENDED_TYPE, RESET_TYPE = "session.ended", "session.reset"


@dataclass(frozen=True, slots=True)
class EventContext:
    """The values that the events of one change share."""

    now: datetime
    new_id: Callable[[], str]


class SessionChange(NamedTuple):
    """A session, the events to send with the times that order them, and the new stored state of its player."""

    session: CourseSession
    events: Sequence[tuple[Event, datetime]] = ()
    state: str | None = None

    def with_event(
        self, context: EventContext, event_type: str, data: Mapping[str, str | float], at: datetime | None = None
    ) -> "SessionChange":
        """The change with one more event. Each event is sent after the earlier ones, whatever the clock does."""
        session = self.session
        sequence, sent_at = session.sequence + 1, session.sent_at
        sent_at = context.now if sent_at is None else max(context.now, sent_at + timedelta(microseconds=1))
        event_data: Data = {**_subjects(session), **data, "sequence": sequence}
        if session.metadata:
            event_data = {**event_data, "metadata": session.metadata}
        event = Event(context.new_id(), event_type, session.account_id, at or context.now, event_data)
        newest_events = (*session.events, SessionEvent(event.id, event.type, event.occurred_at))[-MAX_SESSION_EVENTS:]
        session = replace(session, events=newest_events, sent_at=sent_at, sequence=sequence)
        return self._replace(session=session, events=[*self.events, (event, sent_at)])


def launch(session: CourseSession, context: EventContext) -> SessionChange:
    """Launch a new session."""
    session = replace(session, end_due_at=session.expires_at)
    return SessionChange(session).with_event(context, LAUNCHED_TYPE, {}, session.launched_at)


def apply_commit(session: CourseSession, commit: PlayerCommit, context: EventContext) -> SessionChange:
    """Apply a commit. A score may wait for newer ones; a completion and a reset never wait."""
    previous, effect = session.progress, apply(session.progress, commit)
    session = replace(session, progress=effect.progress, last_commit_at=context.now)
    if effect.is_completed or context.now >= (due_at := session.next_score_at(context.now)):
        change = report_score(session, context)
    else:
        change = SessionChange(replace(session, score_due_at=due_at if effect.progress.has_new_score else None))
    if effect.is_reset:
        change = change.with_event(context, RESET_TYPE, {**_statuses(effect.progress), **_previous_statuses(previous)})
    if effect.is_completed:
        change = change.with_event(
            context, COMPLETED_TYPE, {**_result(effect.progress), **_previous_statuses(previous)}
        )
    return _with_state(change, commit, effect)


def _with_state(change: SessionChange, commit: PlayerCommit, effect: CommitEffect) -> SessionChange:
    """Store the player's state if it is wanted: not for a late commit or a review."""
    session = change.session
    if session.stored_state is None or commit.data is None or not has_state(commit.data):
        return change
    if effect.is_stale or not effect.progress.is_for_the_record:
        return change
    state = to_player_state(commit.data, effect.progress.total_time)
    stored_state = StoreResult.TOO_LARGE if state is None else StoreResult.STORED
    return change._replace(session=replace(session, stored_state=stored_state), state=state)


def report_score(session: CourseSession, context: EventContext) -> SessionChange:
    """Report the newest score, if there is a new one."""
    session = replace(session, score_due_at=None)
    if not session.progress.has_new_score:
        return SessionChange(session)
    session = replace(session, progress=session.progress.with_score_reported())
    return SessionChange(session).with_event(context, SCORED_TYPE, _score(session.progress.score))


def close(session: CourseSession, context: EventContext) -> SessionChange:
    """Close an open session, and report its end."""
    return _end(replace(session, closed_at=context.now), context)


def end_if_due(session: CourseSession, context: EventContext) -> SessionChange:
    """Report the end of a session whose last commit URL has expired, unless a later one was made meanwhile."""
    if session.expires_at > context.now:
        return SessionChange(replace(session, end_due_at=session.expires_at))
    return _end(session, context)


def _end(session: CourseSession, context: EventContext) -> SessionChange:
    """Report the end of a session, after its last score. A session ends once, though later commits may follow."""
    change = report_score(session, context)
    ended_session = replace(change.session, end_due_at=None, ended_at=session.ended_at or context.now)
    change = change._replace(session=ended_session)
    if session.ended_at is not None:
        return change
    return change.with_event(context, ENDED_TYPE, _end_result(ended_session))


def has_last_score(change: SessionChange) -> bool:
    """Whether the change reports the last score that its session may report."""
    is_last = change.session.progress.scores_reported == MAX_SCORES_PER_SESSION
    return is_last and any(event.type == SCORED_TYPE for event, _ in change.events)


def _end_result(session: CourseSession) -> dict[str, str | float]:
    progress, last_commit_at = session.progress, session.last_commit_at
    score = _score(progress.score) if progress.score.has_value else {}
    time = {"totalTime": format_length(progress.total_time)} if progress.total_time else {}
    commit = {"lastCommitAt": format_time(last_commit_at)} if last_commit_at else {}
    return {"reported": _reporting_completeness(session), **_statuses(progress), **score, **time, **commit}


def _reporting_completeness(session: CourseSession) -> str:
    """How much of the learner's progress the player reported."""
    progress = session.progress
    if session.last_commit_at is None or not progress.is_for_the_record:
        return "nothing"
    is_decided = progress.completion is Completion.COMPLETED or progress.success is not Success.UNKNOWN
    return "completed" if is_decided else "partly"


def _result(progress: Progress) -> dict[str, str | float]:
    score = _score(progress.score) if progress.score.has_value else {}
    return {**_statuses(progress), **score, "totalTime": format_length(progress.total_time)}


def _statuses(progress: Progress) -> dict[str, str]:
    return {"completionStatus": progress.completion.value, "successStatus": progress.success.value}


def _previous_statuses(progress: Progress) -> dict[str, str]:
    """The statuses before a commit, if they are known."""
    previous = {"previousCompletionStatus": progress.completion, "previousSuccessStatus": progress.success}
    return {name: status.value for name, status in previous.items() if status.value != "unknown"}


def _score(score: Score) -> dict[str, str | float]:
    parts = {"scoreRaw": score.raw, "scoreMin": score.min, "scoreMax": score.max, "scoreScaled": score.scaled}
    return {name: value for name, value in parts.items() if value is not None}


def _subjects(session: CourseSession) -> dict[str, str]:
    dispatch = {} if session.dispatch_id is None else {"dispatchId": session.dispatch_id}
    return {"sessionId": session.id, "packageId": session.package_id, **dispatch, "learnerId": session.learner_id}
