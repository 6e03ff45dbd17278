"""What the fields of our own records may hold, for anybody who may write to a topic can write anything there."""

from collections.abc import Iterable
from datetime import UTC, datetime

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.errors import Invalid, Unreadable
from streams.core.ids import ID_WORDS, is_id
from streams.core.limits import CONCURRENCY, PAYLOAD_BYTES, SCOPE_IDS
from streams.core.schedule import Tier
from streams.core.url import url_errors
from streams.core.webhook import Webhook

# A database's INTEGER, and far more than anybody counts to.
LARGEST_COUNT = 2**31 - 2
# With a tier's wait added it is still one of the years that a datetime has.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9900, 1, 1, tzinfo=UTC)


def check_delivery(delivery: Delivery) -> Delivery:
    """The delivery itself. Raises `Unreadable`, naming a field that no delivery of ours can have."""
    _ids(("accountId", delivery.account_id), ("eventId", delivery.event_id), ("webhookId", delivery.webhook_id))
    _counts(
        delivery.generation, delivery.step, delivery.attempt, delivery.target_attempt, delivery.primary_attempts + 1
    )
    _times(delivery.first_seen_at)
    _texts(delivery.event_type, delivery.seen.incarnation, delivery.pause_id, delivery.trace_parent)
    if len(delivery.body) > PAYLOAD_BYTES:
        raise Unreadable(f"body: it has {len(delivery.body)} bytes; at most {PAYLOAD_BYTES} are sent")
    return delivery


def check_dead_letter(letter: DeadLetter) -> DeadLetter:
    """The dead letter itself, or `Unreadable`."""
    check_delivery(letter.delivery)
    _texts(letter.words)
    return letter


def check_attempt(attempt: Attempt) -> Attempt:
    """The attempt itself, or `Unreadable`."""
    _ids(("accountId", attempt.account_id), ("eventId", attempt.event_id), ("webhookId", attempt.webhook_id))
    _counts(attempt.generation, attempt.step, attempt.number, attempt.target_attempt, attempt.health_epoch)
    _times(attempt.first_seen_at, attempt.started_at, attempt.ended_at)
    if attempt.status is not None and not 100 <= attempt.status <= 999:
        raise Unreadable(f"status: {attempt.status} is no HTTP status")
    if attempt.tier is not None:
        try:
            _ = Tier(attempt.tier).wait
        except Invalid as wrong:
            raise Unreadable(str(wrong)) from None
    _texts(attempt.event_type, attempt.words, attempt.url)
    return attempt


def check_webhook(webhook: Webhook) -> Webhook:
    """The webhook itself, or `Unreadable`."""
    _ids(("id", webhook.id), ("accountId", webhook.account_id))
    _ids(*(("packages", one) for one in webhook.packages), *(("dispatches", one) for one in webhook.dispatches))
    if max(len(webhook.packages), len(webhook.dispatches)) > SCOPE_IDS:
        raise Unreadable(f"scopes: at most {SCOPE_IDS} ids")
    _counts(webhook.health_epoch)
    if not 1 <= webhook.max_concurrency <= CONCURRENCY:
        raise Unreadable(f"maxConcurrency: {webhook.max_concurrency} is not from 1 to {CONCURRENCY}")
    errors = url_errors("url", webhook.url, allow_http=True)
    if webhook.fallback_url is not None:
        errors += url_errors("fallbackUrl", webhook.fallback_url, allow_http=True)
    if errors:
        raise Unreadable("; ".join(map(str, errors)))
    return webhook


def _ids(*named: tuple[str, str]) -> None:
    for name, value in named:
        if not is_id(value):
            raise Unreadable(f"{name}: {value[:40]!r} is not an id: {ID_WORDS}")


def _counts(*values: int) -> None:
    for value in values:
        if not 1 <= value <= LARGEST_COUNT:
            raise Unreadable(f"{value} is not a count from 1 to {LARGEST_COUNT}")


def _times(*moments: datetime) -> None:
    for moment in moments:
        if not EARLIEST <= moment <= LATEST:
            raise Unreadable(f"{moment.isoformat()} is not a time at which anything of ours happened")


def _texts(*values: str | None) -> None:
    for value in _present(values):
        if "\0" in value:
            raise Unreadable("a text holds a null, which no database takes")


def _present(values: Iterable[str | None]) -> Iterable[str]:
    return (value for value in values if value)
