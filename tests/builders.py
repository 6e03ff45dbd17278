"""Values with defaults; a test sets only the fields that it is about."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.events.event import Data, Event, EventSubjects, event_hash, render, subjects_of_event
from streams.core.limits import (
    MAX_ID_CHARACTERS,
    MAX_METADATA_NAME_CHARACTERS,
    MAX_METADATA_PAIRS,
    MAX_METADATA_VALUE_CHARACTERS,
    MAX_SEQUENCE,
    MAX_TEXT_CHARACTERS,
)
from streams.core.webhooks.webhook import EncryptedSecret, Pause, PauseReason, Status, Webhook

NOON = datetime(2026, 4, 10, 12, tzinfo=UTC)
# The secret of the test vector of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

# The example of the product's description, as it is parsed from JSON.
EXAMPLE: Data = {
    "sessionId": "sess_abc123",
    "packageId": "pkg_def456",
    "dispatchId": "dsp_ghi789",
    "learnerId": "learner-42",
    "completionStatus": "completed",
    "successStatus": "passed",
    "scoreRaw": 92,
    "scoreMax": 100,
    "totalTime": "PT12M34S",
}

_WIDEST_ID = "i" * MAX_ID_CHARACTERS
# JSON escapes a control character as six bytes; UTF-8 needs at most four.
_WIDEST_TEXT = "\x01" * MAX_TEXT_CHARACTERS
# The longest value of each field of an event's data.
WIDEST: dict[str, Any] = {
    "sessionId": _WIDEST_ID,
    "packageId": _WIDEST_ID,
    "dispatchId": _WIDEST_ID,
    "learnerId": _WIDEST_TEXT,
    "version": _WIDEST_TEXT,
    "title": _WIDEST_TEXT,
    "completionStatus": "not attempted",
    "successStatus": "unknown",
    "scoreRaw": -1.2345678901234567e-300,
    "scoreMin": -1.2345678901234567e-300,
    "scoreMax": -1.2345678901234567e-300,
    "scoreScaled": -0.12345678901234567,
    "totalTime": "P" + "1" * 54 + "Y1M1DT1S",
    "period": "2026-04",
    "launches": 2**63 - 1,
    "limit": 2**63 - 1,
    "thresholdPercent": 100,
    "previousCompletionStatus": "not attempted",
    "previousSuccessStatus": "unknown",
    "reported": "completed",
    "lastCommitAt": "2026-04-10T14:32:00." + "9" * 38 + "+02:00",
    "webhookId": _WIDEST_ID,
    "url": _WIDEST_TEXT,
    "reason": "failures",
    "pausedHours": 24,
    "failures": 2**63 - 1,
    "count": 2**63 - 1,
    "lastStatus": 2**63 - 1,
    "pausedAt": "2026-04-10T14:32:00." + "9" * 38 + "+02:00",
    "failingSince": "2026-04-10T14:32:00." + "9" * 38 + "+02:00",
    "since": "2026-04-10T14:32:00." + "9" * 38 + "+02:00",
    "until": "2026-04-10T14:32:00." + "9" * 38 + "+02:00",
    "sequence": MAX_SEQUENCE,
    "metadata": {
        f"{number:02}".ljust(MAX_METADATA_NAME_CHARACTERS, "\U0001f393"): "\U0001f393" * MAX_METADATA_VALUE_CHARACTERS
        for number in range(MAX_METADATA_PAIRS)
    },
}


def event(**changes: Any) -> Event:
    """A completed session of account `acme`."""
    completed = Event(
        id="evt_01HYX9K2M3N4P5Q6R7S8T9V0W1",
        type="session.completed",
        account_id="acme",
        occurred_at=datetime(2026, 4, 10, 14, 32, tzinfo=UTC),
        data=EXAMPLE,
    )
    return replace(completed, **changes)


def webhook(**changes: Any) -> Webhook:
    """An active webhook of account `acme` that takes everything."""
    everything = Webhook(
        id="wh_crm",
        account_id="acme",
        url="https://crm.example.com/hooks",
        secrets=(ciphertext(SECRET),),
    )
    return replace(everything, **changes)


def paused(reason: PauseReason = PauseReason.MANUAL, **changes: Any) -> Webhook:
    """A paused webhook."""
    return webhook(status=Status.PAUSED, pause=Pause("pause_1", reason), **changes)


def ciphertext(secret: str, valid_until: datetime | None = None) -> EncryptedSecret:
    """A secret as `FakeEncryption` encrypts it."""
    return EncryptedSecret("encrypted:" + secret, valid_until)


def delivery(**changes: Any) -> Delivery:
    """A delivery before its first attempt; its subjects and its hash are those of its body."""
    body = changes.setdefault("body", render(event()))
    owed = Delivery(
        account_id="acme",
        event_id=event().id,
        event_type="session.completed",
        webhook_id="wh_crm",
        first_seen_at=NOON,
        subscriptions_position=SubscriptionsPosition("first", 0),
        body=body,
        subjects=subjects_of(body),
        event_hash=event_hash(body),
    )
    return owed._replace(**changes)


def subjects_of(body: bytes) -> EventSubjects:
    """The subjects of the event in a body; none when it has no event."""
    try:
        data = json.loads(body)["data"]
    except (ValueError, TypeError, KeyError):
        return EventSubjects()
    return subjects_of_event(event(data=data))


def attempt(**changes: Any) -> Attempt:
    """A successful first attempt at that delivery."""
    succeeded = Attempt(
        account_id="acme",
        event_id=event().id,
        event_type="session.completed",
        webhook_id="wh_crm",
        trigger=Trigger.EVENT,
        generation=1,
        step=2,
        number=1,
        target=Target.PRIMARY,
        target_attempt=1,
        health_epoch=1,
        url="https://crm.example.com/hooks",
        first_seen_at=NOON,
        started_at=NOON,
        ended_at=NOON,
        request_headers={"webhook-id": event().id},
        status=200,
        response_headers={"content-type": "text/plain"},
        response_body=b"thanks",
        outcome=OutcomeKind.DELIVERED,
        message="The endpoint responded with 200.",
        next_step=NextStep.DONE,
    )
    return succeeded._replace(**changes)


def dead_letter(**changes: Any) -> DeadLetter:
    """That delivery as a dead letter, after its last attempt."""
    letter = DeadLetter(
        delivery(step=7, attempt=7), DeathReason.EXHAUSTED, "The endpoint responded with 500: its server failed."
    )
    return replace(letter, **changes)
