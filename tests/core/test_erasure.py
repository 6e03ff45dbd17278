"""Which events an erasure covers, and which texts name a learner."""

from datetime import timedelta

import pytest

from builders import NOON, event
from streams.core.accounts.usage import THRESHOLD_TYPE
from streams.core.deliveries.request import MASK
from streams.core.erasures.erasure import is_erased, learner_hash, mask_learner
from streams.core.events.event import render
from streams.core.events.event_data import EVENT_TYPES

SECOND = timedelta(seconds=1)


def body(seconds: int) -> bytes:
    return render(event(occurred_at=NOON + seconds * SECOND))


@pytest.mark.parametrize(
    ("seen", "happened", "erased"),
    [(-1, -1, True), (0, 0, True), (1, -1, True), (-1, 1, True), (1, 0, True), (1, 1, False)],
)
def test_what_was_seen_or_happened_before_is_erased(seen: int, happened: int, erased: bool) -> None:
    assert is_erased(NOON, NOON + seen * SECOND, body(happened)) is erased
    assert not is_erased(None, NOON + seen * SECOND, body(happened))


@pytest.mark.parametrize("odd", [b"", b"[]", b"no JSON", b'{"createdAt": 5}', b"[" * 100_000])
def test_an_odd_body_is_judged_by_when_it_was_seen(odd: bytes) -> None:
    assert is_erased(NOON, NOON, odd)
    assert not is_erased(NOON, NOON + SECOND, odd)


def test_a_hash_needs_the_key() -> None:
    assert learner_hash(b"1", "acme", "ada") != learner_hash(b"2", "acme", "ada")
    assert learner_hash(b"1", "acme", "ada") != learner_hash(b"1", "acm", "eada")


@pytest.mark.parametrize(
    ("text", "learner"),
    [
        ("42", "42"),
        ("learner 42 failed", "42"),
        ("(42)", "42"),
        ('{"learnerId":"42"}', "42"),
        ("It was ada@example.com.", "ada@example.com"),
        ("ada@example.com: no such person", "ada@example.com"),
        ("https://lms.example.com/learners/42", "42"),
        ("Grüße an Zoë Müller", "Zoë Müller"),
        ("C:\\ada", "C:\\ada"),
        ("*", "*"),
    ],
)
def test_a_text_that_names_a_learner_is_masked(text: str, learner: str) -> None:
    found = mask_learner({"a": [text, 5, None, {"b": text}]}, learner)
    masked = text.replace(learner, MASK)
    assert found == {"a": [masked, 5, None, {"b": masked}]}
    assert mask_learner(found, learner) == found


@pytest.mark.parametrize(
    ("text", "learner"),
    [
        ("evt_42", "42"),
        ("2026-04-10T14:42:00Z", "42"),
        ("142", "42"),
        ("42@example.com", "42"),
        ("ada@example.com", "ada"),
        ("ada@example.community", "ada@example.com"),
        ("grace.ada@example.com", "ada@example.com"),
        ("3.42", "42"),
        ("2 * 3", "*"),
        ("42", "4"),
    ],
)
def test_a_part_of_another_word_is_kept(text: str, learner: str) -> None:
    assert mask_learner([text], learner) == [text]


def test_events_of_our_own_name_no_learner() -> None:
    assert "learnerId" not in EVENT_TYPES[THRESHOLD_TYPE]
