"""Events with texts that break careless programs."""

from datetime import UTC, datetime, timedelta
from typing import Any

Event = dict[str, Any]

APRIL = datetime(2026, 4, 10, 14, 32, tzinfo=UTC)
STRANGE_TEXTS = (
    "learner-42",
    "زينب عبد الرحمن",
    "שרה כהן",
    "王小明",
    "Zoë \u202egnp.exe\u202c",
    "a'b\"c;,\\d\t%2F/../?#&=+",
    "line\nbreak\r\nX-Header: no",
    "\x01\x7f",
    "=cmd|' /C calc'!A0",
    "..",
    "👩🏽‍🎓",
    "𝔘" * 1024,
    "ع" * 1024,
)


def event(number: int, event_type: str, at: datetime = APRIL, **data: Any) -> Event:
    """An event as a receiver gets it; `number` makes its id."""
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000Z", "Z")
    return {"id": f"evt_{number}", "type": event_type, "createdAt": time, "data": data}


def completed(number: int, at: datetime = APRIL, **more: Any) -> Event:
    """A session that its learner completed and passed."""
    session = {"sessionId": f"sess_{number}", "packageId": "pkg_1", "learnerId": "learner-42"}
    result = {"completionStatus": "completed", "successStatus": "passed", "totalTime": "PT12M34S"}
    return event(number, "session.completed", at, **{**session, **result, **more})


def launched(number: int, at: datetime = APRIL, **more: Any) -> Event:
    session = {"sessionId": f"sess_{number}", "packageId": "pkg_1", "learnerId": "learner-42"}
    return event(number, "session.launched", at, **{**session, **more})


def later(minutes: float) -> datetime:
    return APRIL + timedelta(minutes=minutes)
