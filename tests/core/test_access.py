"""API keys, operators, cursors, rate limits, audit, statistics and mails."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, attempt
from streams.core.accounts.access import (
    ApiKey,
    OperatorKey,
    digest,
    parse_operator_key,
    parse_operator_keys,
    scope_errors,
)
from streams.core.accounts.mail import MAX_MAIL_ATTEMPTS, Mail, MailKind, next_due_at
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Invalid
from streams.core.ids import derived_id, is_id
from streams.core.page import Cursor, parse_cursor
from streams.core.queues.rate import CATCH_UP_SECONDS, BatchTokenBucket, TokenBucket
from streams.core.webhooks.webhook_stats import ResponseTimes, by_hour, percentile_ms, response_times_of
from streams.features.mails.text import compose


def test_a_key_is_valid_until_it_expires_or_is_revoked() -> None:
    key = ApiKey("key_1", "acme", "export", "sk_", digest("sk_1"), NOON, expires_at=NOON + timedelta(hours=1))
    assert key.is_valid(NOON)
    assert not key.is_valid(NOON + timedelta(hours=1))
    assert not ApiKey("key_1", "acme", "export", "sk_", digest("sk_1"), NOON, revoked_at=NOON).is_valid(NOON)


def test_unknown_scopes_and_no_scopes_are_errors() -> None:
    assert scope_errors(["webhooks:read", "events:write"]) == []
    assert "'all' is not a scope" in scope_errors(["all"])[0].message
    assert "at least one" in scope_errors([])[0].message


# -- operators -------------------------------------------------------------------------------------------------

KEY = "k" * 24


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        (f"ada={KEY}", "ada", KEY),
        (f"ada={KEY}==", "ada", f"{KEY}=="),
        (KEY, digest(KEY)[:8], KEY),
        (f"{KEY}==", digest(f"{KEY}==")[:8], f"{KEY}=="),
    ],
)
def test_an_operators_key_has_a_name(text: str, name: str, key: str) -> None:
    assert parse_operator_key(text) == OperatorKey(name, digest(key))


@pytest.mark.parametrize(
    "text", ["short", "ada=short", f"a-name-of-its-own={KEY[:-1]}", f"a name={KEY}", f"={KEY[:-1]}"]
)
def test_a_wrong_operators_key_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        parse_operator_key(text)
    assert text not in str(refused.value)


@pytest.mark.parametrize("texts", [[f"ada={KEY}", f"ada={KEY}2"], [f"ada={KEY}", f"bob={KEY}"], [KEY, f"ada={KEY}"]])
def test_two_operators_need_different_names_and_keys(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="name of its own"):
        parse_operator_keys(texts)


# -- cursors ---------------------------------------------------------------------------------------------------


@given(st.datetimes(timezones=st.just(NOON.tzinfo)), st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True))
def test_a_cursor_is_decoded_as_it_was_encoded(at, name) -> None:  # type: ignore[no-untyped-def]
    assert parse_cursor(str(Cursor(at, name))) == Cursor(at, name)


@given(st.text())
def test_an_invalid_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"^cursor: must be the nextCursor of an earlier response$"):
        parse_cursor(text)


# -- limits ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 100), st.lists(st.floats(0, 30), max_size=200))
def test_a_token_bucket_never_exceeds_its_limit(limit: int, waits: list[float]) -> None:
    bucket, now, passed = TokenBucket.full(limit, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        passed += bucket.take(now)
        assert passed <= limit + now * limit / 60 + 1e-6
        assert 0 <= bucket.remaining <= limit
        assert 0 <= bucket.seconds_until_full <= 60


def test_a_bucket_allows_one_call_after_the_wait_it_returns() -> None:
    bucket = TokenBucket.full(7, 0.0)
    while bucket.take(0.0):
        pass
    wait = bucket.seconds_until_token
    assert not bucket.take(wait - 1.0)
    assert bucket.take(float(wait))


@given(st.integers(1, 2000), st.lists(st.tuples(st.floats(0, 2), st.integers(0, 500)), max_size=100))
def test_a_pace_allows_a_burst_of_half_a_second(per_second: int, looks: list[tuple[float, int]]) -> None:
    pace, now, went = BatchTokenBucket(per_second), 1e6, 0
    for wait, wanted in looks:
        now += wait
        count = min(wanted, pace.allowance(now))
        pace.take(count)
        went += count
        assert went <= max(2, CATCH_UP_SECONDS * per_second) + (now - 1e6) * per_second + 1e-3


@given(st.integers(1, 2000))
def test_a_pace_holds_when_used_ten_times_a_second(per_second: int) -> None:
    pace, went = BatchTokenBucket(per_second), 0
    for look in range(101):
        count = pace.allowance(1000 + look / 10)
        pace.take(count)
        went += count
    assert abs(went - max(2, CATCH_UP_SECONDS * per_second) - 10 * per_second) <= 2


def test_a_pace_continues_when_the_clock_is_set_back() -> None:
    pace = BatchTokenBucket(100)
    pace.take(pace.allowance(1000.0))
    assert pace.allowance(400.0) == 0
    assert pace.allowance(400.1) == pytest.approx(10, abs=1)


# -- ids and numbers -------------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_a_derived_id_is_valid_and_stable(first: str, second: str) -> None:
    made = derived_id("evt", first, second)
    assert made == derived_id("evt", first, second)
    assert is_id(made)
    assert len(made) == len("evt_01HYX9K2M3N4P5Q6R7S8T9V0W1")
    assert made != derived_id("evt", first, second + "x")


def test_attempts_count_in_the_hour_they_began_except_tests() -> None:
    end = NOON + timedelta(milliseconds=30)
    late = NOON + timedelta(minutes=59)
    counted = by_hour(
        [
            attempt(ended_at=end),
            attempt(started_at=late, ended_at=late + timedelta(milliseconds=10)),
            attempt(started_at=late + timedelta(hours=1), ended_at=late + timedelta(hours=1), outcome=OutcomeKind.DNS),
            attempt(trigger=Trigger.TEST),
        ]
    )
    assert [(hour.hour.hour, hour.outcome, hour.attempts, hour.slowest_ms) for hour in counted] == [
        (12, "delivered", 2, 30.0),
        (13, "dns", 1, 0.0),
    ]
    assert counted[0].last_at == late + timedelta(milliseconds=10)


def test_the_time_of_a_reader_is_not_a_response_time() -> None:
    [hour] = by_hour([attempt(url="", ended_at=NOON + timedelta(milliseconds=30))])
    assert (hour.attempts, hour.milliseconds, hour.slowest_ms) == (1, 0.0, 0.0)


# -- mails -----------------------------------------------------------------------------------------------------


def mail(kind: MailKind = MailKind.PAUSED, **details: object) -> Mail:
    return Mail("mail_1", "key", "acme", "wh_crm", kind, details, NOON)


def test_a_pause_mail_says_what_failed_and_what_to_do() -> None:
    mail_text = compose(
        mail(
            reason="failures",
            url="https://crm.example.com/<hooks>",
            failures=5,
            since="2026-04-10T12:00:00Z",
            lastStatus=500,
            lastMessage="The endpoint responded with 500: its server failed.",
        ),
        "https://hooks.example.com/",
    )
    assert mail_text.subject == "Webhook paused: https://crm.example.com/<hooks>"
    for message in (
        "5 attempts in a row failed",
        "Failing since:  2026-04-10T12:00:00Z",
        "its server failed.",
        "Nothing is lost",
        "status in time",
        "https://hooks.example.com/webhooks/wh_crm",
    ):
        assert message in mail_text.text
    assert "&lt;hooks&gt;" in mail_text.html
    assert "<hooks>" not in mail_text.html
    assert "Last attempt" not in mail_text.text


def test_a_subject_is_always_one_line() -> None:
    assert (
        compose(mail(description="a\r\nBcc: b@example.com"), "https://x").subject
        == "Webhook paused: a Bcc: b@example.com"
    )
    word = "=?utf-8?q?=0d=0aBcc:_evil=40example.com=0d=0a?="
    assert "=?" not in compose(mail(description=word), "https://x").subject
    assert "410 Gone" in compose(mail(reason="gone", url="https://x"), "https://x").text


def test_without_a_public_url_a_mail_names_calls_not_links() -> None:
    mail_text = compose(mail(reason="failures", url="https://crm.example.com"), None)
    for message in (mail_text.text, mail_text.html):
        assert "POST /v1/webhooks/wh_crm/enable" in message
        assert "GET /v1/webhooks/wh_crm/health" in message
        assert "scorm-webhooks webhooks show wh_crm" in message
        assert "href" not in message
        assert "See it and act" not in message


@pytest.mark.parametrize(
    ("count", "reminder", "subject"),
    [(1, False, "Undelivered: 1 event for CRM"), (3, True, "Still undelivered: 3 events for CRM")],
)
def test_a_mail_about_dead_letters_has_their_number(count: int, reminder: bool, subject: str) -> None:
    details = {
        "description": "CRM",
        "count": count,
        "since": "2026-04-10T12:00:00Z",
        **({"reminder": True} if reminder else {}),
    }
    assert compose(mail(MailKind.DEAD_LETTERS, **details), "https://x").subject == subject


def test_a_mail_is_retried_for_about_three_days() -> None:
    first = [next_due_at(tries, NOON) for tries in range(1, 6)]
    assert first == [NOON + timedelta(seconds=wait) for wait in (30, 120, 600, 3600, 3600)]
    now, tries = NOON, 0
    while (again := next_due_at(tries := tries + 1, now)) is not None:
        assert again > now
        now = again
    assert tries == MAX_MAIL_ATTEMPTS
    assert timedelta(days=2.9) < now - NOON < timedelta(days=3.1)


def test_percentiles_come_from_response_time_buckets() -> None:
    def responded_in(milliseconds: float) -> Attempt:
        return attempt(status=200, started_at=NOON, ended_at=NOON + timedelta(milliseconds=milliseconds))

    times = response_times_of(
        [
            responded_in(3),
            responded_in(30),
            responded_in(30),
            responded_in(9000),
            responded_in(10_001),
            attempt(status=None),
        ]
    )
    assert [(one.up_to_ms, one.attempts) for one in times] == [(5, 1), (50, 2), (10_000, 1), (15_000, 1)]
    assert percentile_ms(times, 0.5) == 43.75
    assert 10_000 < (percentile_ms(times, 1.0) or 0) <= 15_000
    assert percentile_ms([], 0.5) is None


def test_percentiles_sum_up_hours_and_begin_at_zero() -> None:
    hours = [ResponseTimes("wh_crm", NOON + timedelta(hours=hour), 5, attempts) for hour, attempts in enumerate((3, 1))]
    slow = ResponseTimes("wh_crm", NOON, 10_000, 4)
    assert percentile_ms(hours, 0.5) == 2.5
    assert percentile_ms([*hours, slow], 0.5) == 5
    assert percentile_ms(hours, 0) == 0
    # Of one attempt of 1 222 ms in the bucket from 1 000 to 2 500.
    one_slow = [ResponseTimes("wh_1", NOON, 2500, 1)]
    assert percentile_ms(one_slow, 0.95) == 2425
    assert percentile_ms(one_slow, 1.0, slowest_ms=1222) == 1222
    assert 1000 < (percentile_ms(one_slow, 0.5, slowest_ms=1222) or 0) < 1222
    # A time at the edge of its bucket.
    assert percentile_ms(one_slow, 0.5, slowest_ms=1000) == 1000
