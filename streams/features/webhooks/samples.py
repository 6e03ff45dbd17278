"""Sample events, which tests send."""

from datetime import datetime

from streams.core.events.event import Data, Event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.times import format_time

# With metadata, so that a filter of metadata can be tried.
_METADATA: Data = {"metadata": {"department": "sales"}}
_SESSION: Data = {
    "sessionId": "sess_test",
    "packageId": "pkg_test",
    "dispatchId": "dsp_test",
    "learnerId": "learner-42",
    **_METADATA,
}
_SCORE: Data = {"scoreRaw": 92, "scoreMin": 0, "scoreMax": 100, "scoreScaled": 0.92}


_WEBHOOK: Data = {"webhookId": "wh_test", "url": "https://crm.example.com/hooks"}
_LAST_ATTEMPT: Data = {"lastStatus": 500}


def sample_event(event_type: str, event_id: str, account_id: str, now: datetime) -> Event:
    """A sample event of a type, marked as a test. Raises KeyError for an unknown type."""
    data: dict[str, Data] = {
        "session.launched": _SESSION,
        "session.completed": {
            **_SESSION,
            "completionStatus": "completed",
            "successStatus": "passed",
            **_SCORE,
            "totalTime": "PT12M34S",
        },
        "session.scored": {**_SESSION, **_SCORE},
        "session.ended": {
            **_SESSION,
            "reported": "partly",
            "completionStatus": "incomplete",
            "successStatus": "unknown",
            "totalTime": "PT3M10S",
            "lastCommitAt": format_time(now),
        },
        "session.reset": {
            **_SESSION,
            "completionStatus": "incomplete",
            "successStatus": "unknown",
            "previousCompletionStatus": "completed",
            "previousSuccessStatus": "passed",
        },
        "package.updated": {
            "packageId": "pkg_test",
            "version": "2",
            "title": "Fire safety",
            "metadata": {"department": "sales"},
        },
        "usage.threshold": {"period": f"{now:%Y-%m}", "launches": 800, "limit": 1000, "thresholdPercent": 80},
        "webhook.failing": {**_WEBHOOK, "failures": 3, "since": format_time(now), **_LAST_ATTEMPT},
        "webhook.paused": {
            **_WEBHOOK,
            "reason": "failures",
            "pausedHours": 0,
            "pausedAt": format_time(now),
            "failures": 5,
            "failingSince": format_time(now),
            **_LAST_ATTEMPT,
        },
        "webhook.recovered": {**_WEBHOOK, "since": format_time(now)},
        "webhook.deadletters": {**_WEBHOOK, "count": 4, "since": format_time(now)},
        "webhook.secret.ending": {**_WEBHOOK, "until": format_time(now)},
        "webhook.certificate.ending": {**_WEBHOOK, "until": format_time(now)},
    }
    assert data.keys() == EVENT_TYPES.keys()
    return Event(event_id, event_type, account_id, now, data[event_type], test=True)
