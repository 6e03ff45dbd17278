"""Models of SCORM sessions."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from api.shared_models import Id, Input, Model, Moment, Text, Time
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_DURATION_CHARACTERS, MAX_TEXT_CHARACTERS
from streams.features.course_sessions.commit import Completion, Score, Success
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.progress import Progress, new_progress
from streams.features.course_sessions.scorm_time import format_length, parse_length
from streams.features.course_sessions.service import OpenedSession, SessionLaunch
from streams.features.course_sessions.session import CourseSession

Number = Annotated[float, Field(allow_inf_nan=False)]
Scaled = Annotated[float, Field(ge=-1, le=1)]
# `metadata_problem` says what is wrong with it.
Metadata = Annotated[dict[str, Any], WithJsonSchema(dict(EVENT_TYPES["session.launched"]["metadata"].kind.schema))]


class KnownResult(Input):
    """What earlier sessions of the learner in this package reached; it causes no event."""

    completion_status: Annotated[Completion, Field(strict=False)] = Completion.UNKNOWN
    success_status: Annotated[Success, Field(strict=False)] = Success.UNKNOWN
    score_raw: Number | None = None
    score_min: Number | None = None
    score_max: Number | None = None
    score_scaled: Scaled | None = None
    total_time: Annotated[
        Text, Field(max_length=MAX_DURATION_CHARACTERS, description="ISO 8601.", examples=["PT12M34S"])
    ] = "PT0S"

    def to_progress(self) -> Progress:
        """Raises `Invalid`."""
        score = Score(self.score_raw, self.score_min, self.score_max, self.score_scaled)
        return new_progress(self.completion_status, self.success_status, score, _seconds(self.total_time))


class NewSession(Input):
    """A learner launches a course."""

    package_id: Annotated[Id, Field(examples=["pkg_def456"])]
    learner_id: Annotated[Text, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS, examples=["learner-42"])]
    dispatch_id: Annotated[Id | None, Field(examples=["dsp_ghi789"])] = None
    session_id: Annotated[
        Id | None,
        Field(description="Your own id of the session. That of an open one makes a further commit URL for it."),
    ] = None
    account_id: Annotated[Id | None, Field(description="With an operator's key: the account.")] = None
    created_at: Annotated[Moment | None, Field(description="When it was launched; absent: now.")] = None
    expires_at: Annotated[
        Moment | None, Field(description="When the commit URL ends: within 30 days; absent: in 24 hours.")
    ] = None
    known: Annotated[
        KnownResult | None,
        Field(description="Absent: nothing; with `keepState`, what the session whose state is given back had reached."),
    ] = None
    metadata: Annotated[
        Metadata,
        Field(
            description="Texts for your own systems: each event of the session has them.",
            examples=[{"department": "sales", "employee": "4711"}],
        ),
    ] = Field(default_factory=dict)
    keep_state: Annotated[
        bool,
        Field(description="Keep what the player commits, and give it back in `stored` at the learner's next launch."),
    ] = False

    def to_launch(self) -> SessionLaunch:
        """Raises `Invalid`."""
        return SessionLaunch(
            self.package_id,
            self.learner_id,
            self.dispatch_id,
            self.session_id,
            self.created_at,
            self.expires_at,
            self.known.to_progress() if self.known else None,
            self.metadata,
            self.keep_state,
        )


def _seconds(text: str) -> Decimal:
    seconds = parse_length(text)
    if seconds is None:
        raise Invalid(FieldError("known.totalTime", "must be an ISO 8601 duration such as PT12M34S, at most 30 years"))
    return seconds


class SessionAccount(Input):
    """The learner and the course of a session."""

    account_id: Annotated[Id | None, Field(description="With an operator's key: the account.")] = None


class OpenSession(Model):
    """An open session. Give `commitUrl` to its player only. It is shown once, and accepts commits of this session."""

    session_id: str
    commit_url: Annotated[str, Field(examples=["https://hooks.example.com/runtime/commit/q3Jd…"])]
    expires_at: Time
    stored: Annotated[
        dict[str, Any] | None,
        Field(
            description="With `keepState`: what the player committed last for the learner, for `loadFromJSON`.",
            examples=[{"cmi": {"core": {"lesson_location": "page-3", "entry": "resume"}, "suspend_data": "…"}}],
        ),
    ] = None
    # So that an erasure finds the stored response to a request with an Idempotency-Key.
    learner_id: Annotated[str | None, Field(description="Whose state `stored` is.")] = None


class EventOfSession(Model):
    """An event that a session has caused."""

    id: str
    type: str
    created_at: Time


class CourseSessionDetails(Model):
    """A session so far: the statuses, the score and the time that its player has reported."""

    session_id: str
    package_id: str
    learner_id: str
    dispatch_id: str | None = None
    launched_at: Time
    last_commit_at: Time | None = None
    closed_at: Time | None = None
    expires_at: Annotated[Time, Field(description="When its last commit URL ends.")]
    ended_at: Annotated[Time | None, Field(description="When `session.ended` was made.")] = None
    metadata: dict[str, str] | None = None
    stored_state: Annotated[
        StoreResult | None,
        Field(description="With `keepState`: what is kept of the player. A commit over 64 KiB is not."),
    ] = None
    completion_status: Completion
    success_status: Success
    score_raw: float | None = None
    score_min: float | None = None
    score_max: float | None = None
    score_scaled: float | None = None
    total_time: Annotated[str, Field(examples=["PT12M34S"])]
    events: Annotated[list[EventOfSession], Field(description="The newest 20, the newest last.")]


def open_session(opened_session: OpenedSession, base_url: str) -> OpenSession:
    """`base_url` is the request's, for a deployment without a public URL."""
    return OpenSession.of(
        opened_session,
        session_id=opened_session.session.id,
        commit_url=opened_session.commit_url(base_url),
        stored=opened_session.stored_state,
        learner_id=opened_session.session.learner_id if opened_session.stored_state else None,
    )


def course_session(session: CourseSession) -> CourseSessionDetails:
    progress = session.progress
    return CourseSessionDetails.of(
        session,
        session_id=session.id,
        completion_status=progress.completion,
        success_status=progress.success,
        score_raw=progress.score.raw,
        score_min=progress.score.min,
        score_max=progress.score.max,
        score_scaled=progress.score.scaled,
        total_time=format_length(progress.total_time),
        metadata=dict(session.metadata) or None,
        events=[EventOfSession.of(event, created_at=event.at) for event in session.events],
    )
