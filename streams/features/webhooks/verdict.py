"""Whether a webhook works, in one sentence."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from streams.core.deliveries.delivery import State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.delivery_options import PauseAfter
from streams.core.webhooks.webhook import DeliveryMode, ListedWebhook, PauseReason, Status, pause_cause
from streams.core.webhooks.webhook_stats import WebhookSummary, percentile_ms


class Level(StrEnum):
    """How urgently a webhook needs a person."""

    GOOD = "good"
    QUIET = "quiet"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a webhook: `words` has the state, its start and its cause; `details` is empty or a sentence."""

    level: Level
    words: str
    since: datetime | None = None
    reason: str = ""
    details: str = ""


def progress_to_pause(failures: int, pause_after: PauseAfter) -> str:
    """How close a failing webhook is to being paused: `2 of 5 failures in a row`."""
    if failures < pause_after.failures:
        return f"{failures} of {pause_after.failures} failures in a row"
    return f"{failures} failures in a row, in less than {pause_after.minutes} minutes"


def verdict(webhook: ListedWebhook, summary: WebhookSummary) -> Verdict:
    """The verdict on a webhook, from the events within the summary's hours."""
    failure_streak, is_pull = summary.failure_streak, webhook.delivery is DeliveryMode.PULL
    backlog = _backlog_text(summary, "held for readers" if is_pull else "held")
    if webhook.status is Status.PAUSED:
        reason = webhook.pause.reason if webhook.pause else PauseReason.MANUAL
        level = Level.BAD if reason.is_automatic else Level.WARNING
        # The reason already contains the endpoint's last message.
        message = None if reason is PauseReason.GONE else failure_streak.last_message
        return Verdict(
            level,
            "paused",
            webhook.paused_at,
            pause_cause(reason, webhook.options.pause_after),
            _to_sentences(message, backlog),
        )
    if failure_streak.failures:
        words = f"failing, {progress_to_pause(failure_streak.failures, webhook.options.pause_after)}"
        details = _to_sentences(failure_streak.last_message, backlog)
        return Verdict(Level.WARNING, words, failure_streak.first_failed_at, details=details)
    delivered_count = summary.attempts.get(OutcomeKind.DELIVERED, 0)
    level = Level.WARNING if summary.unfinished.get(State.DEAD) else Level.GOOD
    quiet_level = level if level is Level.WARNING else Level.QUIET
    if _is_new(webhook.url_changed_at, summary):
        words = "pull webhook" if is_pull else "new URL"
        return Verdict(quiet_level, words, webhook.url_changed_at, "nothing delivered yet", _to_sentences(backlog))
    if not delivered_count:
        if failed_count := sum(summary.attempts.values()):
            attempts = "1 attempt" if failed_count == 1 else f"{_count(failed_count)} attempts"
            words = f"nothing delivered in the last 24 hours, {attempts} failed"
            return Verdict(Level.WARNING, words, details=_to_sentences(backlog))
        if is_pull and summary.unfinished.get(State.HELD):
            words = "no reader has acknowledged an event in the last 24 hours"
            return Verdict(Level.WARNING, words, details=_to_sentences(backlog))
        return Verdict(quiet_level, "no events in the last 24 hours", details=_to_sentences(backlog))
    p95 = percentile_ms(summary.response_times, 0.95, summary.slowest_ms)
    pace = f", p95 {round(p95)} ms" if p95 is not None else ""
    return Verdict(level, f"healthy, {_count(delivered_count)} delivered{pace}", details=_to_sentences(backlog))


def _is_new(url_changed_at: datetime | None, summary: WebhookSummary) -> bool:
    """Whether the URL changed within the summary's hours, and nothing has been delivered since."""
    if url_changed_at is None or (summary.since is not None and url_changed_at < summary.since):
        return False
    return summary.last_delivered_at is None or summary.last_delivered_at <= url_changed_at


def _backlog_text(summary: WebhookSummary, held_name: str) -> str:
    """`312 waiting, 4 dead letters`."""
    names = {State.WAITING: "waiting", State.HELD: held_name, State.DEAD: "dead letters"}
    counts = [(summary.unfinished.get(state, 0), name) for state, name in names.items()]
    return ", ".join(
        f"{_count(count)} {'dead letter' if (count, name) == (1, 'dead letters') else name}"
        for count, name in counts
        if count
    )


def _count(number: int) -> str:
    """A number with thin spaces: `1 204`."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _to_sentences(*parts: str | None) -> str:
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)
