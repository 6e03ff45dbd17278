"""Rows of SCORM sessions."""

from dataclasses import fields
from typing import Any

import orjson
from pydantic import TypeAdapter

from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.progress import Progress
from streams.features.course_sessions.session import CourseSession, SessionEvent

_PROGRESS = TypeAdapter(Progress)
_EVENTS = TypeAdapter(tuple[SessionEvent, ...])

_CONVERTED_COLUMNS = ("progress", "events", "metadata", "stored_state")
_PLAIN_COLUMNS = [field.name for field in fields(CourseSession) if field.name not in _CONVERTED_COLUMNS]


def to_row(session: CourseSession) -> dict[str, Any]:
    return {
        **{name: getattr(session, name) for name in _PLAIN_COLUMNS},
        "progress": _PROGRESS.dump_json(session.progress).decode(),
        "events": _EVENTS.dump_json(session.events).decode(),
        "metadata": orjson.dumps(session.metadata).decode() if session.metadata else None,
        "stored_state": session.stored_state and session.stored_state.value,
    }


def to_session(row: Any) -> CourseSession:
    return CourseSession(
        **{name: getattr(row, name) for name in _PLAIN_COLUMNS},
        progress=_PROGRESS.validate_json(row.progress),
        events=_EVENTS.validate_json(row.events),
        metadata=orjson.loads(row.metadata) if row.metadata else {},
        stored_state=StoreResult(row.stored_state) if row.stored_state else None,
    )
