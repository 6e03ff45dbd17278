"""The verdict of a webhook says each thing once."""

import pytest

from builders import NOON, webhook
from streams.core.delivery import State
from streams.core.outcome import OutcomeKind
from streams.core.verdict import Verdict, verdict
from streams.core.webhook import Pause, PauseReason, Registration, Status
from streams.core.webhook_stats import FailureStreak, WebhookSummary


def paused(reason: PauseReason, last_message: str) -> Verdict:
    known = Registration(webhook(status=Status.PAUSED, pause=Pause("pause_1", reason)), paused_at=NOON, created_at=NOON)
    return verdict(known, WebhookSummary(failing=FailureStreak(5, NOON, last_message=last_message)))


@pytest.mark.parametrize(
    ("reason", "message", "details"),
    [
        (PauseReason.GONE, "The endpoint responded with 410 Gone.", ""),
        (PauseReason.FAILURES, "The endpoint responded with 500.", "The endpoint responded with 500."),
    ],
)
def test_a_paused_webhook_names_its_reason_once(reason: PauseReason, message: str, details: str) -> None:
    assert paused(reason, message).details == details


def test_large_counts_have_thin_spaces() -> None:
    known = Registration(webhook(), created_at=NOON)
    summary = WebhookSummary({OutcomeKind.DELIVERED: 1204}, unfinished={State.WAITING: 312, State.DEAD: 10_000})
    found = verdict(known, summary)
    assert found.words == "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered"
    assert found.details == "312 waiting, 10\N{NARROW NO-BREAK SPACE}000 dead letters."
