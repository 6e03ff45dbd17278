"""The outcome of an attempt, and Retry-After."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.deliveries.outcome import NETWORK_KINDS, Failure, OutcomeKind, Response, judge, parse_retry_after


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (200, {}, OutcomeKind.DELIVERED),
        (204, {}, OutcomeKind.DELIVERED),
        (299, {}, OutcomeKind.DELIVERED),
        (300, {}, OutcomeKind.REDIRECT),
        (301, {"location": "https://elsewhere.example.com"}, OutcomeKind.REDIRECT),
        (304, {}, OutcomeKind.REDIRECT),
        (400, {}, OutcomeKind.CLIENT_ERROR),
        (404, {}, OutcomeKind.CLIENT_ERROR),
        (410, {}, OutcomeKind.GONE),
        (429, {}, OutcomeKind.CLIENT_ERROR),
        (429, {"retry-after": "60"}, OutcomeKind.THROTTLED),
        (429, {"retry-after": "soon"}, OutcomeKind.CLIENT_ERROR),
        (500, {}, OutcomeKind.SERVER_ERROR),
        (500, {"retry-after": "60"}, OutcomeKind.SERVER_ERROR),
        (503, {}, OutcomeKind.SERVER_ERROR),
        (503, {"retry-after": "60"}, OutcomeKind.THROTTLED),
        (599, {}, OutcomeKind.SERVER_ERROR),
        (101, {}, OutcomeKind.SERVER_ERROR),
        (999, {}, OutcomeKind.SERVER_ERROR),
    ],
)
def test_2xx_is_a_success_and_everything_else_a_failure(
    status: int, headers: dict[str, str], kind: OutcomeKind
) -> None:
    outcome = judge(Response(status, headers), NOON, 10)
    assert outcome.kind is kind
    assert outcome.is_delivered is (kind is OutcomeKind.DELIVERED)
    assert (outcome.retry_after is not None) is (kind is OutcomeKind.THROTTLED)
    assert str(status) in outcome.message


FAILURES = [
    OutcomeKind.TIMEOUT,
    OutcomeKind.CONNECT_TIMEOUT,
    OutcomeKind.DNS,
    OutcomeKind.REFUSED,
    OutcomeKind.RESET,
    OutcomeKind.TLS,
    OutcomeKind.FORBIDDEN_ADDRESS,
    OutcomeKind.INVALID_RESPONSE,
    OutcomeKind.PROXY_ERROR,
    OutcomeKind.UNSENDABLE,
]


@pytest.mark.parametrize("kind", FAILURES)
def test_each_network_failure_has_a_message(kind: OutcomeKind) -> None:
    outcome = judge(Failure(kind, "{errno} 111"), NOON, 10)
    assert outcome.kind is kind
    assert not outcome.is_delivered
    assert " ({errno} 111)." in outcome.message
    assert judge(Failure(kind), NOON, 10).message.endswith(".")


def test_a_timeout_message_has_the_seconds() -> None:
    message = judge(Failure(OutcomeKind.TIMEOUT), NOON, 2.5).message
    assert message.startswith("The endpoint did not respond within 2.5 seconds. ")


def test_a_response_is_never_a_failure_of_our_own_network() -> None:
    assert set(FAILURES) >= NETWORK_KINDS


def test_a_throttled_response_says_how_long_to_wait() -> None:
    outcome = judge(Response(503, {"retry-after": "90"}), NOON, 10)
    assert outcome.message == "The endpoint responded with 503 and asked to wait 90 seconds."


# -- Retry-After ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("000000000000120", 120),
        ("9" * 5000, 10**8),
        ("Fri, 10 Apr 2026 12:02:00 GMT", 120),
        ("Fri, 10 Apr 2026 14:02:00 +0200", 120),
        ("Fri, 10 Apr 2026 12:02:00 -0000", 120),
        ("Fri, 10 Apr 2026 11:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: int) -> None:
    assert parse_retry_after(value, NOON) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [None, "", "-1", "1.5", "soon", "١٢", "Fri, 99 Apr 2026 12:00:00 GMT"])
def test_an_invalid_retry_after_is_ignored(value: str | None) -> None:
    assert parse_retry_after(value, NOON) is None


@given(st.integers(0, 10**8))
def test_any_number_of_seconds_is_accepted(seconds: int) -> None:
    assert parse_retry_after(str(seconds), NOON) == timedelta(seconds=seconds)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_a_date_in_the_past_is_no_wait(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert parse_retry_after(format_datetime(moment, usegmt=True), NOON) == max(moment - NOON, timedelta(0))


dates = st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,5} \d\d:\d\d:\d\d( [+-]\d{4,9}| GMT)?", fullmatch=True)


@given(st.text() | st.text("0123456789 +-:,GMT") | dates)
def test_any_text_is_a_wait_or_none(value: str) -> None:
    wait = parse_retry_after(value, NOON)
    assert wait is None or wait >= timedelta(0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            OutcomeKind.TIMEOUT,
            "The endpoint responded with 200, but its response did not end within 10 seconds. "
            "End it with the length that Content-Length names, or close the connection.",
        ),
        (
            OutcomeKind.RESET,
            "The endpoint responded with 200, but closed the connection before the end of its response. "
            "Send as many bytes as Content-Length names.",
        ),
    ],
)
def test_a_response_that_has_begun_is_named(kind: OutcomeKind, message: str) -> None:
    outcome = judge(Failure(kind, partial_response=Response(200, {})), NOON, 10)
    assert (outcome.kind, outcome.message) == (kind, message)


@pytest.mark.parametrize(
    ("status", "content_type", "is_meant"),
    [
        *((403, "text/html; charset=UTF-8", True), (406, "text/html", True)),
        *((403, "application/json", False), (404, "text/html", False), (403, "", False)),
    ],
)
def test_a_page_as_refusal_is_said_to_be_a_firewalls(status: int, content_type: str, is_meant: bool) -> None:
    outcome = judge(Response(status, {"content-type": content_type}), NOON, 10)
    assert outcome.kind is OutcomeKind.CLIENT_ERROR
    assert ("firewall" in outcome.message) is is_meant
