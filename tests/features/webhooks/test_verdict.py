"""A webhook's verdict says whether it works, since when not, and why."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, paused, webhook
from streams.core.deliveries.delivery import State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status
from streams.core.webhooks.webhook_stats import FailureStreak, ResponseTimes, WebhookSummary
from streams.features.webhooks.verdict import Level, Verdict, verdict

ACTIVE = Registration(webhook(), NOON)
REFUSED = "The endpoint's server refused the connection. Check that it runs."
EARLIER, LATER = NOON - timedelta(minutes=1), NOON + timedelta(minutes=1)
MOVED = Registration(webhook(), NOON - timedelta(days=9), url_changed_at=NOON)
STREAK = FailureStreak(3, NOON - timedelta(minutes=9), NOON, None, REFUSED)
DELIVERED: dict[str, int] = {OutcomeKind.DELIVERED: 1204}
PULLED = Registration(webhook(url=""), NOON)
QUICK = (ResponseTimes("wh_crm", NOON, 250, 100),)


@pytest.mark.parametrize(
    ("known", "summary", "expected"),
    [
        pytest.param(
            ACTIVE,
            WebhookSummary(DELIVERED, QUICK),
            Verdict(Level.GOOD, "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered, p95 242 ms"),
            id="healthy",
        ),
        pytest.param(
            ACTIVE, WebhookSummary(), Verdict(Level.QUIET, "no events in the last 24 hours"), id="without events"
        ),
        pytest.param(
            PULLED,
            WebhookSummary({}, (), {State.HELD: 2}),
            Verdict(
                Level.WARNING,
                "no reader has acknowledged an event in the last 24 hours",
                details="2 held for readers.",
            ),
            id="pull, without a reader",
        ),
        pytest.param(
            PULLED, WebhookSummary(), Verdict(Level.QUIET, "no events in the last 24 hours"), id="pull, without events"
        ),
        pytest.param(
            PULLED,
            WebhookSummary({OutcomeKind.DELIVERED: 5}, (), {State.HELD: 2}),
            Verdict(Level.GOOD, "healthy, 5 delivered", details="2 held for readers."),
            id="pull, with a reader",
        ),
        pytest.param(
            replace(PULLED, url_changed_at=NOON),
            WebhookSummary(),
            Verdict(Level.QUIET, "pull webhook", NOON, "nothing delivered yet"),
            id="pull, since a change",
        ),
        pytest.param(
            ACTIVE,
            WebhookSummary(DELIVERED, (), {State.WAITING: 312}, STREAK),
            Verdict(
                Level.WARNING,
                "failing, 3 of 5 failures in a row",
                STREAK.first_failed_at,
                details=f"{REFUSED} 312 waiting.",
            ),
            id="failing",
        ),
        pytest.param(
            ACTIVE,
            WebhookSummary(DELIVERED, (), {State.DEAD: 1}),
            Verdict(Level.WARNING, "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered", details="1 dead letter."),
            id="with a dead letter",
        ),
        pytest.param(
            Registration(paused(), NOON, paused_at=NOON),
            WebhookSummary(unfinished={State.HELD: 4, State.DEAD: 2}),
            Verdict(Level.WARNING, "paused", NOON, "by a person", "4 held, 2 dead letters."),
            id="paused by a person",
        ),
        pytest.param(
            Registration(paused(PauseReason.FAILURES), NOON, paused_at=NOON),
            WebhookSummary(failure_streak=replace(STREAK, failures=5)),
            Verdict(Level.BAD, "paused", NOON, "after 5 failures in a row", REFUSED),
            id="paused by failures",
        ),
        pytest.param(
            MOVED,
            WebhookSummary(DELIVERED, QUICK, {State.WAITING: 2}, last_delivered_at=EARLIER),
            Verdict(Level.QUIET, "new URL", NOON, "nothing delivered yet", "2 waiting."),
            id="nothing delivered to a new URL",
        ),
        pytest.param(
            MOVED,
            WebhookSummary({OutcomeKind.TIMEOUT: 5}, unfinished={State.DEAD: 1}),
            Verdict(Level.WARNING, "new URL", NOON, "nothing delivered yet", "1 dead letter."),
            id="a new URL instead of one that failed",
        ),
        pytest.param(
            MOVED,
            WebhookSummary(DELIVERED, last_delivered_at=LATER),
            Verdict(Level.GOOD, "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered"),
            id="delivered to a new URL",
        ),
        pytest.param(
            ACTIVE,
            WebhookSummary({OutcomeKind.SERVER_ERROR: 13, OutcomeKind.TIMEOUT: 1}),
            Verdict(Level.WARNING, "nothing delivered in the last 24 hours, 14 attempts failed"),
            id="enabled again after failures",
        ),
        pytest.param(
            ACTIVE,
            WebhookSummary(DELIVERED, QUICK, slowest_ms=131),
            Verdict(Level.GOOD, "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered, p95 129 ms"),
            id="no slower than the slowest",
        ),
        pytest.param(
            MOVED,
            WebhookSummary(since=LATER),
            Verdict(Level.QUIET, "no events in the last 24 hours"),
            id="a URL that was new before these hours",
        ),
    ],
)
def test_a_verdict_is_one_sentence(known: Registration, summary: WebhookSummary, expected: Verdict) -> None:
    assert verdict(known.listed_webhook, summary) == expected


def verdict_of_pause(reason: PauseReason, last_message: str) -> Verdict:
    known = Registration(webhook(status=Status.PAUSED, pause=Pause("pause_1", reason)), paused_at=NOON, created_at=NOON)
    return verdict(
        known.listed_webhook, WebhookSummary(failure_streak=FailureStreak(5, NOON, last_message=last_message))
    )


@pytest.mark.parametrize(
    ("reason", "message", "details"),
    [
        (PauseReason.GONE, "The endpoint responded with 410 Gone.", ""),
        (PauseReason.FAILURES, "The endpoint responded with 500.", "The endpoint responded with 500."),
    ],
)
def test_a_paused_webhook_names_its_reason_once(reason: PauseReason, message: str, details: str) -> None:
    assert verdict_of_pause(reason, message).details == details


def test_large_counts_have_thin_spaces() -> None:
    known = Registration(webhook(), created_at=NOON)
    summary = WebhookSummary({OutcomeKind.DELIVERED: 1204}, unfinished={State.WAITING: 312, State.DEAD: 10_000})
    found = verdict(known.listed_webhook, summary)
    assert found.words == "healthy, 1\N{NARROW NO-BREAK SPACE}204 delivered"
    assert found.details == "312 waiting, 10\N{NARROW NO-BREAK SPACE}000 dead letters."
