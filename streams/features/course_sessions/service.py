"""Sessions of SCORM courses: open them, store their players' commits, and close them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson

from streams.core.errors import Conflict, Ended, FieldError, Invalid, NotFound, Unavailable
from streams.core.events.event import check_event
from streams.core.events.event_data import metadata_problem
from streams.core.limits import MAX_LEARNER_BYTES
from streams.features.course_sessions.changes import EventContext, SessionChange, apply_commit, close, launch
from streams.features.course_sessions.commit import PlayerCommit
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.progress import Progress, continue_progress
from streams.features.course_sessions.session import CommitUrl, CourseSession, token_hash
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.shared.accounts import SqlAccounts
from streams.ids import new_id
from streams.ports.runtime import Clock

DEFAULT_LIFETIME = timedelta(hours=24)
MAX_SESSION_LIFETIME = timedelta(days=30)
# The course waits for the response, and its window is frozen meanwhile.
COMMIT_TIMEOUT_SECONDS = 3.0
COMMIT_PATH = "/runtime/commit/"
NO_SESSION_MESSAGE = "no session has this commit URL"


@dataclass(frozen=True, slots=True)
class SessionLaunch:
    """A session to open.

    `known_progress` is the learner's progress from earlier sessions; None if the platform does not say.
    """

    package_id: str
    learner_id: str
    dispatch_id: str | None = None
    session_id: str | None = None
    launched_at: datetime | None = None
    expires_at: datetime | None = None
    known_progress: Progress | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    keeps_state: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """An open session, and the token of a commit URL, which is shown only once.

    `stored_state` is the last state that the learner's player stored in this package.
    """

    session: CourseSession
    token: str = field(repr=False)
    expires_at: datetime
    stored_state: Mapping[str, Any] | None = field(repr=False)
    public_url: str | None = None

    def commit_url(self, base_url: str) -> str:
        """The commit URL; it begins with `base_url` if the deployment has no public URL."""
        return f"{(self.public_url or base_url).rstrip('/')}{COMMIT_PATH}{self.token}"


@dataclass
class CourseSessionService:
    """Sessions and their commits. Kafka is not needed, because the events are sent later."""

    _sessions: SqlCourseSessions
    _accounts: SqlAccounts
    _clock: Clock
    _new_token: Callable[[], str]
    _public_url: str | None = None

    async def open(self, account_id: str, launch_request: SessionLaunch) -> OpenedSession:
        """Open a session, or make a further commit URL for an open one.

        Raises `Invalid`, and `Conflict` for a session with another package or learner, for a closed session, and for a
        state beyond the account's limit.
        """
        if await self._accounts.find(account_id) is None:
            raise Invalid(FieldError("accountId", f"there is no account {account_id}"))
        if len(launch_request.learner_id.encode(errors="replace")) > MAX_LEARNER_BYTES:
            raise Invalid(FieldError("learnerId", f"must have at most {MAX_LEARNER_BYTES} bytes in UTF-8"))
        if launch_request.metadata and (problem := metadata_problem(launch_request.metadata)):
            raise Invalid(FieldError("metadata", problem))
        previous_state = None
        if launch_request.keeps_state:
            previous_state = await self._sessions.states.newest(
                account_id, launch_request.learner_id, launch_request.package_id
            )
            if previous_state is None:
                await self._require_space(account_id)
        progress = continue_progress(previous_state[0].progress) if previous_state else Progress()
        if launch_request.known_progress:
            # The course begins with the state's total time, even if the platform sends the known progress.
            progress = launch_request.known_progress.with_launch_time(progress.total_time)
        now = self._clock.now()
        session = CourseSession(
            account_id,
            launch_request.session_id or new_id("sess"),
            launch_request.package_id,
            launch_request.learner_id,
            launch_request.launched_at or now,
            _expiry(launch_request.expires_at, now),
            launch_request.dispatch_id,
            progress,
            metadata=launch_request.metadata,
            stored_state=StoreResult.NOTHING if launch_request.keeps_state else None,
        )
        launch_change = launch(session, self._event_context(now))
        _check_launch(launch_change, now)
        token = self._new_token()
        url = CommitUrl(token_hash(token), account_id, session.id, session.expires_at)
        stored_session = await self._sessions.open(launch_change, url, partial(_check_existing, session))
        state = orjson.loads(previous_state[1]) if previous_state and stored_session.stored_state is not None else None
        return OpenedSession(stored_session, token, url.expires_at, state, self._public_url)

    async def _require_space(self, account_id: str) -> None:
        """Raise `Conflict` if a state would be one too many. A learner's existing state is replaced by a newer one."""
        states = self._sessions.states
        if await states.is_full(account_id):
            raise Conflict(
                f"the account keeps {await states.total_bytes(account_id)} bytes of players' states, and may keep "
                f"{states.max_bytes}: open the session without keepState, or ask the operator for a higher limit"
            )

    async def find(self, account_id: str, session_id: str) -> CourseSession:
        """Find a session. Raises `NotFound`."""
        return _require_session(await self._sessions.find(account_id, session_id), session_id)

    async def close(self, account_id: str, session_id: str) -> CourseSession:
        """End the commit URLs, after the time that a late commit needs. Raises `NotFound`."""
        context = self._event_context(self._clock.now())
        return _require_session(
            await self._sessions.close(account_id, session_id, partial(close, context=context)), session_id
        )

    async def account_of(self, token: str) -> str:
        """The account of a commit URL.

        Raises `NotFound` for an unknown token, and `Unavailable` while the database does not answer.
        """
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                account_id = await self._sessions.account_of(token_hash(token))
        except TimeoutError:
            raise Unavailable("the database did not find a commit URL in time") from None
        if account_id is None:
            raise NotFound(NO_SESSION_MESSAGE)
        return account_id

    async def commit(self, token: str, commit: PlayerCommit) -> None:
        """Store a commit with the events that it causes.

        Raises `Ended`, `NotFound` for an unknown token, and `Unavailable` while the database does not answer.
        """
        now = self._clock.now()

        def apply(session: CourseSession, url: CommitUrl) -> SessionChange:
            if now >= url.ends_at(session.closed_at):
                raise Ended("this commit URL has ended: open the session again at the platform")
            return apply_commit(session, commit, self._event_context(now))

        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                is_known = await self._sessions.commit(token_hash(token), apply)
        except TimeoutError:
            raise Unavailable("the database did not store a commit in time") from None
        if not is_known:
            raise NotFound(NO_SESSION_MESSAGE)

    def _event_context(self, now: datetime) -> EventContext:
        return EventContext(now, lambda: new_id("evt"))


def _expiry(requested_expiry: datetime | None, now: datetime) -> datetime:
    if requested_expiry is None:
        return now + DEFAULT_LIFETIME
    if not now < requested_expiry <= now + MAX_SESSION_LIFETIME:
        raise Invalid(FieldError("expiresAt", "must be a time to come, within 30 days"))
    return requested_expiry


def _check_launch(launch_change: SessionChange, now: datetime) -> None:
    """Raise `Invalid`, with the field names of the request."""
    [(event, _)] = launch_change.events
    try:
        check_event(event, now)
    except Invalid as error:
        errors = [FieldError(item.field.removeprefix("data."), item.message) for item in error.errors]
        raise Invalid(*errors) from None


def _check_existing(requested_session: CourseSession, existing: CourseSession) -> None:
    for name, requested_value, existing_value in (
        ("package", requested_session.package_id, existing.package_id),
        ("learner", requested_session.learner_id, existing.learner_id),
    ):
        if requested_value != existing_value:
            raise Conflict(f"session {existing.id} is of another {name}: use another sessionId")
    if existing.closed_at is not None:
        raise Conflict(f"session {existing.id} is closed: use another sessionId")


def _require_session(session: CourseSession | None, session_id: str) -> CourseSession:
    if session is None:
        raise NotFound(f"there is no session {session_id}")
    return session
