"""Checks of decoded records: anybody who may write to a topic can write anything there."""

import json
from datetime import UTC, datetime
from functools import lru_cache

from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.schedule import Tier
from streams.core.errors import Invalid, InvalidRecord, NewerRecord
from streams.core.events.event import EventSubjects
from streams.core.events.event_data import FIELD_NAMES, is_storable
from streams.core.events.event_filter import EventFilter, UnknownOperator, parse_filter, parse_filter_json
from streams.core.ids import ID_DESCRIPTION, ID_PATTERN, is_id
from streams.core.limits import (
    MAX_CONCURRENCY,
    MAX_FIELDS_SENT,
    MAX_METADATA_PAIRS,
    MAX_PAYLOAD_BYTES,
    MAX_SCOPE_IDS,
    MAX_TEXT_CHARACTERS,
    MAX_URL_CHARACTERS,
    MAX_WAITS_IN_TIER,
    METADATA_HASH_BYTES,
)
from streams.core.webhooks.auth import UnknownOption
from streams.core.webhooks.delivery_options import DEFAULT_OPTIONS, DeliveryOptions, parse_options
from streams.core.webhooks.webhook import Webhook

# The largest INTEGER of a database, and far more than any count here.
MAX_COUNT = 2**31 - 2
SHA256_BYTES = 32
_is_id = ID_PATTERN.fullmatch
# With a tier's wait added, the year still fits into a datetime.
EARLIEST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_TIME = datetime(9900, 1, 1, tzinfo=UTC)


def check_delivery(delivery: Delivery) -> Delivery:
    """Check a delivery and return it. Raises `InvalidRecord`, which names the impossible value."""
    _check_owner(delivery)
    _check_counts(
        delivery.generation,
        delivery.step,
        delivery.attempt,
        delivery.target_attempt,
        delivery.primary_attempts + 1,
        delivery.waits_left + 1,
    )
    _check_times(delivery.first_seen_at)
    _check_texts(
        delivery.event_type,
        delivery.subscriptions_position.incarnation,
        delivery.pause_id or "",
        delivery.trace_parent or "",
    )
    _check_subjects(delivery.subjects)
    if len(delivery.event_hash) != SHA256_BYTES:
        raise InvalidRecord(f"eventHash: it has {len(delivery.event_hash)} bytes, not {SHA256_BYTES}")
    if len(delivery.body) > MAX_PAYLOAD_BYTES:
        raise InvalidRecord(f"body: it has {len(delivery.body)} bytes; at most {MAX_PAYLOAD_BYTES} are sent")
    return delivery


def _check_subjects(subjects: EventSubjects) -> None:
    for name, value in (
        ("sessionId", subjects.session_id),
        ("packageId", subjects.package_id),
        ("dispatchId", subjects.dispatch_id),
    ):
        if value is not None and not _is_id(value):
            _check_ids((name, value))
    learner_id = subjects.learner_id
    if learner_id is not None and not (is_storable(learner_id) and len(learner_id) <= MAX_TEXT_CHARACTERS):
        raise InvalidRecord(f"learnerId: must be a text of at most {MAX_TEXT_CHARACTERS} characters without a null")
    if len(subjects.metadata) > MAX_METADATA_PAIRS or any(len(h) != METADATA_HASH_BYTES for h in subjects.metadata):
        raise InvalidRecord(f"metadata: must be at most {MAX_METADATA_PAIRS} hashes of {METADATA_HASH_BYTES} bytes")


def check_dead_letter(letter: DeadLetter) -> DeadLetter:
    """Check a dead letter and return it. Raises `InvalidRecord`."""
    check_delivery(letter.delivery)
    _check_texts(letter.message)
    return letter


def check_attempt(attempt: Attempt) -> Attempt:
    """Check an attempt and return it. Raises `InvalidRecord`."""
    _check_owner(attempt)
    _check_counts(attempt.generation, attempt.step, attempt.number, attempt.target_attempt, attempt.health_epoch)
    if not 1 <= attempt.waits <= MAX_WAITS_IN_TIER:
        raise InvalidRecord(f"waits: {attempt.waits} is not from 1 to {MAX_WAITS_IN_TIER}")
    _check_times(attempt.first_seen_at, attempt.started_at, attempt.ended_at)
    if attempt.certificate_ends_at is not None:
        _check_times(attempt.certificate_ends_at)
    if attempt.status is not None and not 100 <= attempt.status <= 999:
        raise InvalidRecord(f"status: {attempt.status} is not an HTTP status")
    if attempt.tier is not None and (problem := _tier_problem(attempt.tier)):
        raise InvalidRecord(problem)
    if len(attempt.fields or ()) > MAX_FIELDS_SENT:
        raise InvalidRecord(f"fields: at most {MAX_FIELDS_SENT}")
    _check_texts(attempt.event_type, attempt.message, attempt.url, attempt.pause_id or "", *attempt.fields or ())
    return attempt


def check_webhook(webhook: Webhook) -> Webhook:
    """Check a webhook and return it. Raises `InvalidRecord`."""
    _check_ids(("id", webhook.id), ("accountId", webhook.account_id))
    _check_ids(
        *(("packages", scope_id) for scope_id in webhook.packages),
        *(("dispatches", scope_id) for scope_id in webhook.dispatches),
    )
    if max(len(webhook.packages), len(webhook.dispatches)) > MAX_SCOPE_IDS:
        raise InvalidRecord(f"scopes: at most {MAX_SCOPE_IDS} ids")
    _check_counts(webhook.health_epoch)
    if not 1 <= webhook.max_concurrency <= MAX_CONCURRENCY:
        raise InvalidRecord(f"maxConcurrency: {webhook.max_concurrency} is not from 1 to {MAX_CONCURRENCY}")
    for name, url in (("url", webhook.url), ("fallbackUrl", webhook.fallback_url)):
        # The rules for new URLs may change; the stored URLs stay valid.
        if url is not None and not (url.isascii() and url.isprintable() and len(url) <= MAX_URL_CHARACTERS):
            raise InvalidRecord(f"{name}: must be printable ASCII of at most {MAX_URL_CHARACTERS} characters")
    return webhook


def parse_recorded_filter(text: str) -> EventFilter:
    """The filter of a webhook's record. Raises `InvalidRecord`; `NewerRecord` for an unknown operator or field."""
    try:
        event_filter = parse_filter(parse_filter_json(text))
    except UnknownOperator as error:
        raise NewerRecord(str(error)) from None
    except Invalid as error:
        raise InvalidRecord(str(error)) from None
    # Without such a condition, or with one that no event meets, the webhook would get other events than it asks for.
    if unknown_names := sorted({condition.name for condition in event_filter.conditions} - FIELD_NAMES):
        raise NewerRecord(f"filter.{unknown_names[0]}: no event type of this release has this field")
    return event_filter


def parse_recorded_options(text: str | None) -> DeliveryOptions:
    """The options of a stored webhook. Raises `InvalidRecord`; `NewerRecord` for an unknown option."""
    if text is None:
        return DEFAULT_OPTIONS
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise InvalidRecord("options: must be an object")
        return parse_options(values)
    except UnknownOption as error:
        raise NewerRecord(str(error)) from None
    except (Invalid, ValueError, RecursionError) as error:
        raise InvalidRecord(f"options: {error}") from None


@lru_cache(1000)
def _tier_problem(name: str) -> str | None:
    try:
        _ = Tier(name).wait
    except Invalid as error:
        return str(error)
    return None


def _check_owner(value: Delivery | Attempt) -> None:
    # Every record is checked: computing the field's name first would cost more than the check.
    if not (_is_id(value.account_id) and _is_id(value.event_id) and _is_id(value.webhook_id)):
        _check_ids(("accountId", value.account_id), ("eventId", value.event_id), ("webhookId", value.webhook_id))


def _check_ids(*pairs: tuple[str, str]) -> None:
    for name, value in pairs:
        if not is_id(value):
            raise InvalidRecord(f"{name}: {value[:40]!r} is not an id: {ID_DESCRIPTION}")


def _check_counts(*values: int) -> None:
    if min(values) < 1 or max(values) > MAX_COUNT:
        raise InvalidRecord(f"one of {values} is not a count from 1 to {MAX_COUNT}")


def _check_times(*moments: datetime) -> None:
    for moment in moments:
        if not EARLIEST_TIME <= moment <= LATEST_TIME:
            raise InvalidRecord(f"{moment.isoformat()} is not a time at which anything of ours happened")


def _check_texts(*values: str) -> None:
    if "\0" in "".join(values):
        raise InvalidRecord("a text holds a null, which no database takes")
