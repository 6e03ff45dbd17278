"""The codec decodes what it encodes, and rejects all other bytes with a reason."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import avro.io
import avro.schema
import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

import schemas
from builders import attempt, dead_letter, delivery, webhook
from fakes import NEWER_CODEC
from streams.adapters.avro.codec import AvroCodec, fingerprint_header
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Invalid, InvalidRecord, NewerRecord
from streams.core.events.event import Event, EventSubjects
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_CONCURRENCY
from streams.core.records.record_checks import MAX_COUNT
from streams.core.webhooks.webhook import EncryptedSecret, Pause, PauseReason, Status, Webhook
from streams.ports.kafka import RecordValue

CODEC = AvroCodec()
NOON = datetime(2026, 4, 10, 12, tzinfo=UTC)

# -- any value -------------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ids = st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True)
counts = st.integers(1, MAX_COUNT)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9899, 12, 31), timezones=st.just(UTC))
headers = st.dictionaries(texts, texts, max_size=3)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("scoreRaw", "scoreMin", "scoreMax", "scoreScaled"), numbers),
    **dict.fromkeys(("launches", "limit", "failures", "count", "lastStatus"), st.integers(0, 2**63 - 1)),
    "pausedHours": st.sampled_from((0, 24)),
    "thresholdPercent": st.sampled_from((80, 100)),
    "sequence": st.integers(0, 2**53 - 1),
    "metadata": st.dictionaries(texts, texts, min_size=1, max_size=3),
}
subjects = st.builds(
    EventSubjects,
    st.none() | ids,
    st.none() | texts,
    st.none() | ids,
    st.none() | ids,
    st.lists(st.binary(min_size=16, max_size=16), max_size=20).map(tuple),
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(list(EVENT_TYPES)))
    known = EVENT_TYPES[kind]
    data = draw(
        st.fixed_dictionaries(
            {name: VALUES.get(name, texts) for name, field in known.items() if field.is_required},
            optional={name: VALUES.get(name, texts) for name, field in known.items() if not field.is_required},
        )
    )
    occurred_at = draw(moments).replace(microsecond=draw(st.integers(0, 999)) * 1000)
    return Event(draw(ids), kind, draw(ids), occurred_at, data, draw(st.none() | texts))


views = st.builds(SubscriptionsPosition, texts, st.integers(0, 2**63 - 1))
deliveries = st.builds(
    Delivery,
    account_id=ids,
    event_id=ids,
    event_type=texts,
    webhook_id=ids,
    first_seen_at=moments,
    subscriptions_position=views,
    body=st.binary(max_size=50),
    trigger=st.sampled_from(Trigger),
    generation=counts,
    step=counts,
    attempt=counts,
    target=st.sampled_from(Target),
    target_attempt=counts,
    primary_attempts=st.integers(0, MAX_COUNT - 1),
    waits_left=st.integers(0, MAX_COUNT - 1),
    hold_reason=st.none() | st.sampled_from(HoldReason),
    pause_id=st.none() | ids,
    trace_parent=st.none() | texts,
    subjects=subjects,
    event_hash=st.binary(min_size=32, max_size=32),
)
tiers = st.builds("{}{}".format, st.integers(1, 366), st.sampled_from("smhd"))
urls = st.builds("https://{}.example/{}".format, st.from_regex(r"[a-z]{1,20}", fullmatch=True), ids)
attempts = st.builds(
    Attempt,
    account_id=ids,
    event_id=ids,
    event_type=texts,
    webhook_id=ids,
    trigger=st.sampled_from(Trigger),
    generation=counts,
    step=counts,
    number=counts,
    target=st.sampled_from(Target),
    target_attempt=counts,
    health_epoch=counts,
    url=texts,
    first_seen_at=moments,
    started_at=moments,
    ended_at=moments,
    request_headers=headers,
    status=st.none() | st.integers(100, 999),
    response_headers=headers,
    response_body=st.binary(max_size=50),
    outcome=st.sampled_from(OutcomeKind),
    message=texts,
    next_step=st.sampled_from(NextStep),
    tier=st.none() | tiers,
    waits=st.integers(1, 28),
    webhook_version=st.integers(0, 2**63 - 1),
    certificate_ends_at=st.none() | moments,
    pause_id=st.none() | ids,
    fields=st.none() | st.lists(texts, max_size=50).map(tuple),
)
dead_letters = st.builds(DeadLetter, deliveries, st.sampled_from(DeathReason), texts)
webhooks = st.builds(
    Webhook,
    id=ids,
    account_id=ids,
    url=urls,
    secrets=st.lists(st.builds(EncryptedSecret, texts, st.none() | moments), max_size=2).map(tuple),
    event_types=st.frozensets(texts, max_size=3),
    packages=st.frozensets(ids, max_size=3),
    dispatches=st.frozensets(ids, max_size=3),
    fallback_url=st.none() | urls,
    encrypted_headers=st.none() | texts,
    encrypted_fallback_headers=st.none() | texts,
    max_concurrency=st.integers(1, MAX_CONCURRENCY),
    status=st.sampled_from(Status),
    pause=st.none() | st.builds(Pause, ids, st.sampled_from(PauseReason)),
    health_epoch=counts,
    version=st.integers(1, 2**63 - 1),
    created_at=st.none() | moments,
)
values: st.SearchStrategy[RecordValue] = st.one_of(events(), deliveries, attempts, dead_letters, webhooks)


# -- there and back --------------------------------------------------------------------------------------------


@given(values)
def test_a_value_comes_back_as_it_was(value: RecordValue) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


@given(webhooks)
def test_the_same_webhook_is_the_same_bytes(webhook: Webhook) -> None:
    again = replace(webhook, event_types=frozenset(sorted(webhook.event_types, reverse=True)))
    assert CODEC.encode(again) == CODEC.encode(webhook)


def test_a_time_in_another_zone_comes_back_in_utc() -> None:
    in_zone = datetime.fromisoformat("2026-04-10T14:00:00+02:00")
    decoded = CODEC.decode(CODEC.encode(replace(UPDATED, occurred_at=in_zone)))
    assert isinstance(decoded, Event)
    assert decoded.occurred_at.isoformat() == "2026-04-10T12:00:00+00:00"


def test_an_event_keeps_milliseconds() -> None:
    decoded = CODEC.decode(CODEC.encode(replace(UPDATED, occurred_at=NOON + timedelta(microseconds=1999))))
    assert isinstance(decoded, Event)
    assert decoded.occurred_at == NOON + timedelta(milliseconds=1)


# -- known answers ---------------------------------------------------------------------------------------------

UPDATED = Event("evt_1", "package.updated", "acc_1", NOON, {"packageId": "pkg_1", "version": "7"})


def test_an_event_is_the_bytes_that_the_avro_specification_says() -> None:
    by_hand = [
        b"\xc3\x01" + rabin(canonical_form("session_event")).to_bytes(8, "little"),
        text("evt_1") + text("package.updated") + text("acc_1"),
        long(1_775_822_400_000),  # 2026-04-10T12:00:00Z
        b"\0",  # no trace parent
        long(3) + text("pkg_1") + text("7") + b"\0",  # the fourth branch; no title
        b"\0",  # no metadata
        b"\0",  # no sequence
    ]
    assert CODEC.encode(UPDATED) == b"".join(by_hand)
    assert CODEC.decode(b"".join(by_hand)) == UPDATED


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_header_is_the_fingerprint_of_the_canonical_form(name: str) -> None:
    assert fingerprint_header(schemas.current(name))[2:] == rabin(canonical_form(name)).to_bytes(8, "little")


@given(deliveries)
def test_apache_avro_reads_what_is_written(delivery: Delivery) -> None:
    schema = avro.schema.parse(json.dumps(schemas.current("delivery")))
    body = avro.io.BinaryDecoder(BytesIO(CODEC.encode(delivery)[10:]))
    record: Any = avro.io.DatumReader(schema).read(body)
    assert record["eventId"] == delivery.event_id
    assert record["body"] == delivery.body
    assert record["firstSeenAt"] == delivery.first_seen_at


def test_rabin_by_hand_agrees_with_the_specification() -> None:
    assert rabin('"int"') == 0x7275D51A3F395C8F


def rabin(canonical: str) -> int:
    """CRC-64-AVRO, as in the specification."""
    empty = 0xC15D213AA4D7A795
    result = empty
    for byte in canonical.encode():
        step = (result ^ byte) & 0xFF
        for _ in range(8):
            step = (step >> 1) ^ (empty if step & 1 else 0)
        result = (result >> 8) ^ step
    return result


def canonical_form(name: str) -> str:
    form: str = avro.schema.parse(json.dumps(schemas.current(name))).canonical_form
    # Apache's Java library follows the rule [PRIMITIVES] for logical types, its Python library does not.
    return form.replace('{"type":"long"}', '"long"')


def long(value: int) -> bytes:
    value <<= 1  # zigzag encoding of a value >= 0
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def text(value: str) -> bytes:
    return long(len(value.encode())) + value.encode()


# -- versions --------------------------------------------------------------------------------------------------


def test_an_older_version_is_read_with_current_defaults() -> None:
    older = schemas.current("session_event")
    older["fields"] = [field for field in older["fields"] if field["name"] != "traceParent"]
    record = {
        "id": "evt_1",
        "type": "package.updated",
        "accountId": "acc_1",
        "occurredAt": NOON,
        "data": ("scormwebhooks.v1.PackageUpdated", {"packageId": "pkg_1", "version": "7"}),
    }
    out = BytesIO(fingerprint_header(older))
    out.seek(0, 2)
    schemaless_writer(out, older, record)
    codec = AvroCodec({"session_event": [older, schemas.current("session_event")]})
    assert codec.decode(out.getvalue()) == UPDATED


def test_a_newer_version_is_refused_by_its_fingerprint() -> None:
    newer = schemas.current("session_event")
    newer["fields"].append({"name": "region", "type": ["null", "string"], "default": None})
    written = AvroCodec({"session_event": [newer]}).encode(UPDATED)
    fingerprint = written[9:1:-1].hex()
    with pytest.raises(NewerRecord, match=f"fingerprint {fingerprint}; a newer one may"):
        CODEC.decode(written)


@pytest.mark.parametrize(
    "value", [webhook(), delivery(), attempt(), dead_letter()], ids=lambda value: type(value).__name__
)
def test_a_newer_release_reads_both_and_this_one_its_own(value: RecordValue) -> None:
    newer = NEWER_CODEC.encode(value)
    assert NEWER_CODEC.decode(newer) == NEWER_CODEC.decode(CODEC.encode(value)) == value
    with pytest.raises(NewerRecord):
        CODEC.decode(newer)


def test_a_release_writes_what_the_one_before_reads() -> None:
    newest = schemas.current("attempt")
    older = {**newest, "fields": [field for field in newest["fields"] if field["name"] != "fields"]}
    before = AvroCodec({"attempt": [older]})
    reading = AvroCodec({"attempt": [older, newest]}, {"attempt": older})
    writing = AvroCodec({"attempt": [older, newest]})
    value = attempt(fields=("sessionId",))
    assert reading.decode(writing.encode(value)) == value
    assert reading.encode(value)[:10] == fingerprint_header(older)
    # The field has its default where it is not written yet.
    assert writing.decode(reading.encode(value)) == attempt(fields=None)
    with pytest.raises(NewerRecord):
        before.decode(writing.encode(value))


def test_an_unknown_word_is_one_of_a_newer_release() -> None:
    written = CODEC.encode(attempt(outcome=OutcomeKind.DELIVERED)).replace(b"delivered", b"postponed")
    with pytest.raises(NewerRecord, match="attempt: 'postponed' is not a OutcomeKind; known are"):
        CODEC.decode(written)


def test_versions_that_differ_only_in_a_logical_type_are_refused() -> None:
    other = schemas.current("session_event")
    other["fields"][3]["type"]["logicalType"] = "timestamp-micros"
    with pytest.raises(ValueError, match="session_event: two versions have the fingerprint"):
        AvroCodec({"session_event": [schemas.current("session_event"), other]})


def test_a_changed_doc_is_no_new_version() -> None:
    other = schemas.current("session_event")
    other["fields"][0]["doc"] = "Said better."
    codec = AvroCodec({"session_event": [schemas.current("session_event"), other]})
    assert codec.decode(codec.encode(UPDATED)) == UPDATED


# -- what is refused -------------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_any_bytes_are_decoded_or_rejected_with_a_reason(value: bytes) -> None:
    read_or_refuse(value)


@given(st.sampled_from(schemas.NAMES), st.binary(max_size=200))
def test_any_bytes_after_a_known_fingerprint_are_read_or_refused(name: str, body: bytes) -> None:
    read_or_refuse(fingerprint_header(schemas.current(name)) + body)


@given(values, st.data())
def test_a_flipped_bit_is_read_or_refused(value: RecordValue, data: st.DataObject) -> None:
    encoded = bytearray(CODEC.encode(value))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    read_or_refuse(bytes(encoded))


@given(values, st.data())
def test_a_truncated_value_is_refused(value: RecordValue, data: st.DataObject) -> None:
    encoded = CODEC.encode(value)
    with pytest.raises(InvalidRecord):
        CODEC.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(values, st.binary(min_size=1, max_size=5))
def test_bytes_that_follow_a_value_are_refused(value: RecordValue, rest: bytes) -> None:
    with pytest.raises(InvalidRecord, match=f"{len(rest)} bytes follow its last field"):
        CODEC.decode(CODEC.encode(value) + rest)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "it begins with nothing, not with c3 01"),
        (b'{"id": 1}', "it begins with 7b 22, not with c3 01 (Avro single-object encoding)"),
        (
            b"\0\0\0\0\x07abc",
            "it begins with 00 00, not with c3 01 (Avro single-object encoding); 00 is Confluent",
        ),
        (b"\xc3\x01abc", "it ends after 5 bytes, within the schema's fingerprint"),
        (b"\xc3\x01" + bytes(range(8)), "no schema of this release has the fingerprint 0706050403020100"),
        (CODEC.encode(UPDATED)[:-1], "session_event: it ends after"),
        (
            CODEC.encode(UPDATED).replace(b"evt_1", b"evt_\xff"),
            "session_event: it is damaged (UnicodeDecodeError",
        ),
    ],
)
def test_a_rejected_property_is_explained(value: bytes, message: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        CODEC.decode(value)
    assert message in str(refused.value)


def test_a_word_that_is_not_on_the_list_is_named() -> None:
    written = CODEC.encode(delivery()).replace(text("primary"), text("primate"))
    with pytest.raises(InvalidRecord, match="delivery: 'primate' is not a Target; known are primary, fallback"):
        CODEC.decode(written)


# -- events ----------------------------------------------------------------------------------------------------


def test_data_of_another_type_is_refused() -> None:
    launched = Event("e", "session.launched", "a", NOON, {"sessionId": "s", "packageId": "p", "learnerId": "l"})
    written = CODEC.encode(launched).replace(text("session.launched"), text("session.scored"))
    with pytest.raises(InvalidRecord, match=r"type is session\.scored but data is a SessionLaunched"):
        CODEC.decode(written)


def test_an_unknown_type_is_read_because_its_stage_decides() -> None:
    written = CODEC.encode(UPDATED).replace(text("package.updated"), text("package.deleted"))
    assert CODEC.decode(written) == replace(UPDATED, type="package.deleted")


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (replace(UPDATED, type="package.deleted"), "type"),
        (replace(UPDATED, occurred_at=NOON.replace(tzinfo=None)), "createdAt"),
        (replace(UPDATED, test=True), "test"),
        (replace(UPDATED, data={"packageId": "pkg_1"}), "event"),
        (replace(UPDATED, data={**UPDATED.data, "colour": "red"}), "event"),
        (replace(UPDATED, data={**UPDATED.data, "title": "\ud800"}), "event"),
    ],
)
def test_an_event_that_its_schema_cannot_hold_is_refused(event: Event, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        CODEC.encode(event)
    assert [error.field for error in refused.value.errors] == [field]


def read_or_refuse(value: bytes) -> None:
    """Fails for any exception but `InvalidRecord`."""
    with suppress(InvalidRecord):
        CODEC.decode(value)
