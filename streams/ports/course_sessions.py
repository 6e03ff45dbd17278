"""What SQL stores of SCORM sessions."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from streams.core.course_session import Change, CommitUrl, CourseSession


class CourseSessions(Protocol):
    """The SCORM sessions of accounts. Each call is one transaction with the events that it causes."""

    async def open(self, launched: Change, url: CommitUrl, check: Callable[[CourseSession], None]) -> CourseSession:
        """Store a new session with its first URL; of a known session only the URL.

        `check` gets a known session, and raises what stops this.
        """

    async def find(self, account_id: str, session_id: str) -> CourseSession | None: ...

    async def close(self, account_id: str, session_id: str, now: datetime) -> CourseSession | None:
        """A second time changes nothing."""

    async def commit(self, token_sha256: str, apply: Callable[[CourseSession, CommitUrl], Change]) -> bool:
        """Change a session by `apply`, one commit after the other. False when no URL has this token.

        What `apply` raises changes nothing.
        """

    async def report_due(self, now: datetime, report: Callable[[CourseSession], Change], limit: int) -> int:
        """Change sessions whose score is due by `report`, at most `limit`. Returns how many."""
