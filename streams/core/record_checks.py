"""What the fields of our own records may hold, for anybody who may write to a topic can write anything there."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NoReturn

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.errors import Invalid, Unreadable
from streams.core.ids import ID_PATTERN, ID_WORDS, is_id
from streams.core.limits import CONCURRENCY, PAYLOAD_BYTES, SCOPE_IDS, URL_CHARACTERS
from streams.core.schedule import Tier
from streams.core.webhook import Webhook

# A database's INTEGER, and far more than anybody counts to.
LARGEST_COUNT = 2**31 - 2
_is_id = ID_PATTERN.fullmatch
# With a tier's wait added it is still one of the years that a datetime has.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9900, 1, 1, tzinfo=UTC)


def check_delivery(delivery: Delivery) -> Delivery:
    """The delivery itself. Raises `Unreadable`, naming a field that no delivery of ours can have."""
    # Nearly all are right: to know which field is wrong takes three times as long.
    if not _is_delivery(delivery):
        _name_what_is_wrong(delivery)
    return delivery


def _is_delivery(delivery: Delivery) -> bool:
    return bool(
        _is_id(delivery.account_id)
        and _is_id(delivery.event_id)
        and _is_id(delivery.webhook_id)
        and 0 < delivery.generation <= LARGEST_COUNT
        and 0 < delivery.step <= LARGEST_COUNT
        and 0 < delivery.attempt <= LARGEST_COUNT
        and 0 < delivery.target_attempt <= LARGEST_COUNT
        and 0 <= delivery.primary_attempts < LARGEST_COUNT
        and EARLIEST <= delivery.first_seen_at <= LATEST
        and len(delivery.body) <= PAYLOAD_BYTES
        and "\0" not in delivery.event_type
        and "\0" not in delivery.seen.incarnation
        and (delivery.pause_id is None or "\0" not in delivery.pause_id)
        and (delivery.trace_parent is None or "\0" not in delivery.trace_parent)
    )


def _name_what_is_wrong(delivery: Delivery) -> NoReturn:
    _ids(("accountId", delivery.account_id), ("eventId", delivery.event_id), ("webhookId", delivery.webhook_id))
    _counts(
        delivery.generation, delivery.step, delivery.attempt, delivery.target_attempt, delivery.primary_attempts + 1
    )
    _times(delivery.first_seen_at)
    _texts(delivery.event_type, delivery.seen.incarnation, delivery.pause_id, delivery.trace_parent)
    if len(delivery.body) > PAYLOAD_BYTES:
        raise Unreadable(f"body: it has {len(delivery.body)} bytes; at most {PAYLOAD_BYTES} are sent")
    raise AssertionError("one of the checks above names the field")


def check_dead_letter(letter: DeadLetter) -> DeadLetter:
    """The dead letter itself, or `Unreadable`."""
    check_delivery(letter.delivery)
    _texts(letter.words)
    return letter


def check_attempt(attempt: Attempt) -> Attempt:
    """The attempt itself, or `Unreadable`."""
    if not _is_attempt(attempt):
        _name_what_is_wrong_with_attempt(attempt)
    return attempt


def _is_attempt(attempt: Attempt) -> bool:
    return bool(
        _is_id(attempt.account_id)
        and _is_id(attempt.event_id)
        and _is_id(attempt.webhook_id)
        and 0 < attempt.generation <= LARGEST_COUNT
        and 0 < attempt.step <= LARGEST_COUNT
        and 0 < attempt.number <= LARGEST_COUNT
        and 0 < attempt.target_attempt <= LARGEST_COUNT
        and 0 < attempt.health_epoch <= LARGEST_COUNT
        and EARLIEST <= attempt.first_seen_at <= LATEST
        and EARLIEST <= attempt.started_at <= LATEST
        and EARLIEST <= attempt.ended_at <= LATEST
        and (attempt.status is None or 100 <= attempt.status <= 999)
        and (attempt.tier is None or _is_tier(attempt.tier))
        and "\0" not in attempt.event_type
        and "\0" not in attempt.words
        and "\0" not in attempt.url
    )


def _name_what_is_wrong_with_attempt(attempt: Attempt) -> NoReturn:
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
    raise AssertionError("one of the checks above names the field")


def check_webhook(webhook: Webhook) -> Webhook:
    """The webhook itself, or `Unreadable`."""
    _ids(("id", webhook.id), ("accountId", webhook.account_id))
    _ids(*(("packages", one) for one in webhook.packages), *(("dispatches", one) for one in webhook.dispatches))
    if max(len(webhook.packages), len(webhook.dispatches)) > SCOPE_IDS:
        raise Unreadable(f"scopes: at most {SCOPE_IDS} ids")
    _counts(webhook.health_epoch)
    if not 1 <= webhook.max_concurrency <= CONCURRENCY:
        raise Unreadable(f"maxConcurrency: {webhook.max_concurrency} is not from 1 to {CONCURRENCY}")
    for name, url in (("url", webhook.url), ("fallbackUrl", webhook.fallback_url)):
        # Which URLs may be registered may change; those that are stay readable.
        if url is not None and not (url.isascii() and url.isprintable() and len(url) <= URL_CHARACTERS):
            raise Unreadable(f"{name}: must be printable ASCII of at most {URL_CHARACTERS} characters")
    return webhook


@lru_cache(1000)
def _is_tier(name: str) -> bool:
    try:
        return Tier(name).wait > timedelta(0)
    except Invalid:
        return False


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
