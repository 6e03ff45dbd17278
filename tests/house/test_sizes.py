"""The largest values within our limits fit every topic."""

import json
from datetime import UTC, datetime

from cryptography.fernet import Fernet

from builders import NOON, WIDEST, attempt, delivery, event, webhook
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.encryption import FernetEncryption
from streams.adapters.http.response_parser import MAX_HEAD_BYTES, MAX_HEADERS
from streams.core.deliveries.attempt import DeadLetter
from streams.core.deliveries.delivery import DeathReason
from streams.core.deliveries.signing import SECRET_BYTES, make_secret
from streams.core.events.event import Event, EventSubjects, check_event, render
from streams.core.events.event_data import EVENT_TYPES
from streams.core.events.event_filter import parse_filter
from streams.core.limits import (
    MAX_FILTER_CONDITIONS,
    MAX_HEADER_NAME_CHARACTERS,
    MAX_HEADER_VALUE_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_METADATA_PAIRS,
    MAX_PAYLOAD_BYTES,
    MAX_RESPONSE_BODY_BYTES,
    MAX_SCOPE_IDS,
    MAX_TEXT_CHARACTERS,
    MAX_URL_CHARACTERS,
    MAX_WEBHOOK_HEADERS,
    METADATA_HASH_BYTES,
)
from streams.core.records.record_checks import check_attempt, check_delivery, check_webhook
from streams.core.webhooks.webhook import EncryptedSecret
from streams.features.webhooks.input import header_errors
from streams.ports.kafka import Partition, Record
from streams.stages.invalid_records import MAX_STORED_BYTES, to_invalid_record
from streams.topics import BATCH_BYTES, INVALID, MAX_RECORD_BYTES, RECORD_BYTES

CODEC = AvroCodec()
ID = "i" * MAX_ID_CHARACTERS
# The overhead of a batch with one record: header, lengths, offset and time.
BATCH_OVERHEAD_BYTES = 200


def widest_events() -> list[Event]:
    """The largest event of each type."""
    return [
        event(
            id=ID,
            type=name,
            account_id=ID,
            occurred_at=datetime(2026, 4, 10, 14, 32, 0, 999000, tzinfo=UTC),
            data={field: WIDEST[field] for field in fields},
        )
        for name, fields in EVENT_TYPES.items()
    ]


WIDEST_DELIVERY = check_delivery(
    delivery(
        account_id=ID,
        event_id=ID,
        webhook_id=ID,
        pause_id=ID,
        body=bytes(MAX_PAYLOAD_BYTES),
        trace_parent="0" * 55,
        subjects=EventSubjects(
            ID, "\U0001f393" * MAX_TEXT_CHARACTERS, ID, ID, (bytes(METADATA_HASH_BYTES),) * MAX_METADATA_PAIRS
        ),
        event_hash=bytes(32),
    )
)


def fits(value: bytes) -> bool:
    return len(value) + MAX_ID_CHARACTERS + BATCH_OVERHEAD_BYTES <= RECORD_BYTES


def test_the_payload_of_the_largest_event_fits_its_limit() -> None:
    for widest in widest_events():
        assert len(render(check_event(widest, NOON))) <= MAX_PAYLOAD_BYTES


def test_the_largest_event_fits_its_topic() -> None:
    assert all(fits(CODEC.encode(widest)) for widest in widest_events())


def test_the_largest_delivery_and_dead_letter_fit_their_topics() -> None:
    assert fits(CODEC.encode(WIDEST_DELIVERY))
    assert fits(CODEC.encode(DeadLetter(WIDEST_DELIVERY, DeathReason.EXHAUSTED, "w" * 4096)))


def test_the_largest_attempt_fits_its_topic() -> None:
    names = {
        f"{n}{'n' * MAX_HEADER_NAME_CHARACTERS}"[:MAX_HEADER_NAME_CHARACTERS]: "•••" for n in range(MAX_WEBHOOK_HEADERS)
    }
    ours = {f"header-{n}": "v" * 512 for n in range(10)}
    # An invalid byte of a response header becomes a character of three bytes.
    answered = {f"{n}": "\ufffd" * (MAX_HEAD_BYTES // MAX_HEADERS) for n in range(MAX_HEADERS + 1)}
    widest = attempt(
        account_id=ID,
        event_id=ID,
        webhook_id=ID,
        url="u" * MAX_URL_CHARACTERS,
        request_headers=names | ours,
        response_headers=answered,
        response_body=bytes(MAX_RESPONSE_BODY_BYTES),
        message="w" * 4096,
    )
    assert fits(CODEC.encode(check_attempt(widest)))


def test_the_largest_webhook_fits_its_topic() -> None:
    encryption = FernetEncryption([Fernet.generate_key().decode()])
    own = {f"{n:0{MAX_HEADER_NAME_CHARACTERS}}": "v" * MAX_HEADER_VALUE_CHARACTERS for n in range(MAX_WEBHOOK_HEADERS)}
    assert header_errors("headers", own) == []
    ids = frozenset(f"{n:0{MAX_ID_CHARACTERS}}" for n in range(MAX_SCOPE_IDS))
    url = "https://example.com/" + "u" * (MAX_URL_CHARACTERS - 20)
    widest = webhook(
        id=ID,
        account_id=ID,
        url=url,
        fallback_url=url[:-1] + "f",
        secrets=tuple(EncryptedSecret(encryption.encrypt(make_secret(bytes(SECRET_BYTES))), NOON) for _ in range(4)),
        encrypted_headers=encryption.encrypt(json.dumps(own)),
        encrypted_fallback_headers=encryption.encrypt(json.dumps(own)),
        packages=ids,
        dispatches=ids,
        event_types=frozenset(EVENT_TYPES),
        filter=parse_filter({f"metadata.{n}": "f" * 390 for n in range(MAX_FILTER_CONDITIONS)}),
    )
    assert fits(CODEC.encode(check_webhook(widest)))


def test_the_largest_whole_invalid_record_fits_its_topic() -> None:
    value = bytes(MAX_STORED_BYTES)
    outgoing = to_invalid_record(
        Record(Partition("deliveries.dead-letter", 10_000), 2**62, None, value, NOON), "e" * 100_000
    )
    headers = sum(len(name) + len(content) + 20 for name, content in outgoing.headers)
    assert outgoing.topic == INVALID
    assert len(outgoing.value or b"") + headers + BATCH_OVERHEAD_BYTES <= MAX_RECORD_BYTES
    assert outgoing.value == value


def test_a_batch_of_many_records_fits_where_one_does() -> None:
    assert BATCH_BYTES + BATCH_OVERHEAD_BYTES <= RECORD_BYTES <= MAX_RECORD_BYTES
