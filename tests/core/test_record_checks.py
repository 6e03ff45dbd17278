"""Every record that decodes can be handled: values beyond our limits are refused."""

from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builders import NOON, SECRET, attempt, dead_letter, delivery, event, webhook
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.decision import decide_after_attempt, decide_before_attempt
from streams.core.deliveries.delivery import Delivery, SubscriptionsPosition
from streams.core.deliveries.delivery_state import RecordedValue, merge_records, strip_details
from streams.core.deliveries.outcome import Response, judge
from streams.core.deliveries.request import build_request
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Invalid, InvalidRecord, NewerRecord
from streams.core.events.event import Event, check_event, render
from streams.core.events.event_filter import EventFilter, parse_filter
from streams.core.limits import MAX_PAYLOAD_BYTES
from streams.core.records.record_checks import check_attempt, check_delivery, check_webhook
from streams.core.webhooks.webhook import Webhook, wants
from streams.core.webhooks.webhook_stats import by_hour
from streams.ports.kafka import RecordValue

CODEC = AvroCodec()
SCHEDULE = parse_schedule("30s,2m")
RECORDS = [CODEC.encode(value) for value in (event(), delivery(), attempt(), dead_letter(), webhook())]
FILTER = parse_filter({"successStatus": "passed", "scoreRaw": {"gte": 50}, "metadata.site": {"in": ["a", "b"]}})
RECORDS.append(CODEC.encode(webhook(filter=FILTER)))
HUGE = 2**62


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"webhook_id": "wh\r\nx"}, "webhookId"),
        ({"account_id": "x" * 129}, "accountId"),
        ({"event_id": "a.b"}, "eventId"),
        ({"body": bytes(MAX_PAYLOAD_BYTES + 1)}, "at most 65536"),
        ({"step": 2**31 - 1}, "is not a count"),
        ({"generation": 0}, "is not a count"),
        ({"attempt": HUGE}, "is not a count"),
        ({"first_seen_at": datetime(9999, 12, 31, tzinfo=UTC)}, "is not a time"),
        ({"pause_id": "a\0b"}, "null"),
    ],
)
def test_a_delivery_beyond_our_limits_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecord, match=message):
        check_delivery(delivery(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": 99_999}, "not an HTTP status"),
        ({"tier": "soon"}, "not a wait"),
        ({"tier": "9999999d"}, "longer than 366 days"),
        ({"number": HUGE}, "is not a count"),
        ({"message": "a\0b"}, "null"),
        ({"ended_at": datetime(9950, 1, 1, tzinfo=UTC)}, "is not a time"),
    ],
)
def test_an_attempt_beyond_our_limits_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecord, match=message):
        check_attempt(attempt(**changes))


# A value beyond the limits of each field, with what the error names.
BEYOND: dict[str, tuple[Any, str]] = {
    "id": ("wh\r\nx", "id"),
    "account_id": ("x" * 129, "accountId"),
    "url": ("https://a" + "b" * 3000, "url"),
    "fallback_url": ("https://a\r\nb", "fallbackUrl"),
    "packages": (frozenset(f"pkg_{n}" for n in range(1001)), "at most 1000"),
    "dispatches": (frozenset({"a.b"}), "dispatches"),
    "max_concurrency": (HUGE, "maxConcurrency"),
    "health_epoch": (-1, "is not a count"),
}
# Why a field has no check here.
UNCHECKED = {
    "secrets": "what cannot be decrypted fails one attempt",
    "encrypted_headers": "as secrets",
    "encrypted_fallback_headers": "as secrets",
    "encrypted_auth_secret": "as secrets",
    "event_types": "compared with an event's type only",
    "status": "the codec reads its words",
    "filter": "the codec parses it",
    "options": "the codec parses them",
    "pause": "the codec reads its reason; its id is compared only",
    "version": "compared with other versions only",
    "created_at": "the append time of a record, not a part of one",
}


@pytest.mark.parametrize(("field", "value", "message"), [(field, *beyond) for field, beyond in BEYOND.items()])
def test_a_webhook_beyond_our_limits_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRecord, match=message):
        check_webhook(webhook(**{field: value}))


def test_every_field_of_a_webhook_has_a_check_or_needs_none() -> None:
    assert {one.name for one in fields(Webhook)} == BEYOND.keys() | UNCHECKED.keys()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x", InvalidRecord, "webhook: filter: must be JSON"),
        ("{}", InvalidRecord, "webhook: filter: must be an object"),
        (f'{{"learnerId": "{"x" * 4096}"}}', InvalidRecord, "webhook: filter: must have at most 4096"),
        ('{"learnerId": {"startsWith": "x"}}', NewerRecord, "'startsWith' is not an operator"),
    ],
)
def test_a_recorded_filter_that_is_wrong_is_refused(text: str, error: type[InvalidRecord], message: str) -> None:
    record = CODEC.encode(webhook(filter=EventFilter(text, ())))
    with pytest.raises(InvalidRecord, match=message) as refused:
        CODEC.decode(record)
    assert refused.type is error


def test_a_webhook_needs_room_for_a_request() -> None:
    with pytest.raises(InvalidRecord, match="maxConcurrency"):
        check_webhook(webhook(max_concurrency=0))


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid record with some bytes changed, removed or inserted."""
    value = bytearray(draw(st.sampled_from(RECORDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(10, len(value)))
        match draw(st.sampled_from(("change", "cut", "insert"))):
            case "change":
                value[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del value[at : at + draw(st.integers(1, 20))]
            case _:
                value[at:at] = draw(st.binary(max_size=12))
    return bytes(value)


def handle(value: RecordValue) -> None:
    """What a stage does with a record before its first await."""
    match value:
        case Event():
            body = render(check_event(value, NOON))
            assert len(body) <= MAX_PAYLOAD_BYTES
            wants(webhook(), value)
        case Delivery():
            merge_records([RecordedValue(value, NOON)])
            known = webhook(fallback_url="https://backup.example.com")
            decide_before_attempt(value, known, SCHEDULE)
            with suppress(ValueError):  # such an attempt reports that it cannot be sent
                build_request(value, known.url, [SECRET], {}, 0, "X-Signature")
            for status in (200, 410, 429, 500):
                outcome = judge(Response(status, {"retry-after": "9" * 400}), NOON, 10)
                following = decide_after_attempt(value, outcome, SCHEDULE, known)
                if isinstance(following, object) and hasattr(following, "delivery"):
                    CODEC.encode(following.delivery)
        case Attempt() | DeadLetter():
            entries = [RecordedValue(value, NOON + timedelta(days=1))]
            batch = merge_records(entries)
            by_hour(batch.attempts)
            merge_records([strip_details(entry) for entry in entries])
        case Webhook():
            value.valid_secrets(NOON)
            wants(value, event())
            CODEC.encode(value)


@settings(max_examples=10 * settings().max_examples)
@given(mutations() | st.binary(max_size=200))
@example(CODEC.encode(delivery(subscriptions_position=SubscriptionsPosition("first", 2**63 - 1))))
def test_every_record_that_decodes_can_be_handled(encoded: bytes) -> None:
    try:
        value = CODEC.decode(encoded)
    except InvalidRecord:
        return
    try:
        handle(value)
    except Invalid:
        assert isinstance(value, Event)
