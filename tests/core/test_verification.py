"""A request that does not verify has a cause, which is found and named."""

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, SECRET
from scorm_webhooks_cli.verification import ReceivedRequest, verify_request
from streams.core.deliveries.signing import sign_platform, sign_standard

PLATFORM_HEADER = "X-AllureConnect-Signature"
BODY = '{"id":"evt_1","type":"session.completed","data":{"title":"Sécurité – 1","n":1.5}}'.encode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes, yes!").decode()


def signed(body: bytes = BODY, *, secret: str = SECRET, age: timedelta = timedelta()) -> ReceivedRequest:
    timestamp = int((NOON - age).timestamp())
    headers = {
        "content-type": "application/json",
        PLATFORM_HEADER.lower(): sign_platform(secret, body),
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_standard(secret, "evt_1", timestamp, body),
    }
    return ReceivedRequest(headers, body)


def failed(request: ReceivedRequest, secret: str = SECRET, *, any_time: bool = False) -> tuple[list[str], str]:
    findings = verify_request(request, secret, NOON, PLATFORM_HEADER, any_time=any_time)
    wrong = [finding for finding in findings if not finding.is_right]
    return [finding.check for finding in wrong], wrong[0].message if wrong else ""


def test_a_genuine_request_passes_every_check() -> None:
    findings = verify_request(signed(), SECRET, NOON, PLATFORM_HEADER)
    assert [(finding.check, finding.is_right) for finding in findings] == [
        ("secret", True),
        ("header", True),
        ("clock", True),
        ("body", True),
    ]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda body: body + b"\n", "body", "a line end was added"),
        (lambda body: json.dumps(json.loads(body)).encode(), "body", "written as JSON a second time"),
        (lambda body: json.dumps(json.loads(body), indent=2).encode(), "body", "written as JSON a second time"),
        (lambda body: b"\xef\xbb\xbf" + body, "encoding", "byte order mark"),
        (lambda body: body.decode("latin-1").encode(), "encoding", "Latin-1"),
        (lambda body: body.decode().encode("utf-16"), "encoding", "UTF-16"),
        (base64.b64encode, "encoding", "Base64"),
        (gzip.compress, "encoding", "compressed"),
    ],
)
def test_a_body_that_was_changed_has_its_cause(change: Callable[[bytes], bytes], check: str, words: str) -> None:
    changed = replace(signed(), body=change(BODY))
    checks, message = failed(changed)
    assert checks == [check]
    assert words in message


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("sk_1234", "is an API key"),
        (SECRET.removeprefix("whsec_"), "does not begin with whsec_"),
        (f" {SECRET}\n", "a space or a line end"),
        (f'"{SECRET}"', "quotation marks"),
        ("whsec_abc", "is not complete"),
    ],
)
def test_a_wrong_secret_has_its_cause(secret: str, words: str) -> None:
    checks, message = failed(signed(), secret)
    assert checks == ["secret"]
    assert words in message


def test_another_secret_or_another_body_is_a_wrong_signature() -> None:
    assert failed(signed(), OTHER_SECRET)[0] == ["signature"]
    assert failed(replace(signed(), body=b"{}"))[0] == ["signature"]


def test_an_old_request_fails_by_its_clock_alone() -> None:
    old = signed(age=timedelta(minutes=6))
    checks, message = failed(old)
    assert (checks, "360 seconds before" in message) == (["clock"], True)
    assert failed(old, any_time=True) == ([], "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"webhook-timestamp": "soon"}, "whole number of seconds"),
        ({"webhook-timestamp": "1775000000000"}, "not milliseconds"),
        ({"webhook-timestamp": "9" * 5000}, "whole number of seconds"),
        ({"webhook-signature": "v2,abc"}, "v1,<Base64>"),
        ({"webhook-id": "evt_2"}, "is not as it was sent"),
    ],
)
def test_a_changed_header_is_named(changes: dict[str, str], words: str) -> None:
    request = signed()
    checks, message = failed(replace(request, headers={**request.headers, **changes}), any_time=len(changes) == 2)
    assert checks[0] == "header"
    assert words in message


def test_missing_headers_are_named_as_a_framework_has_them() -> None:
    checks, message = failed(ReceivedRequest({"http_webhook_signature": "v1,abc", "webhook-id": "evt_1"}, BODY))
    assert checks == ["header"]
    assert "webhook-timestamp, webhook-signature is missing; your framework calls it http_webhook_signature" in message


def test_one_scheme_is_enough_and_either_secret_of_a_rotation() -> None:
    request = signed()
    platform_only = {name: text for name, text in request.headers.items() if not name.startswith("webhook-")}
    assert failed(ReceivedRequest(platform_only, BODY)) == ([], "")
    both = f"{signed(secret=OTHER_SECRET).headers['webhook-signature']} {request.headers['webhook-signature']}"
    name = PLATFORM_HEADER.lower()
    rotated = {
        **request.headers,
        "webhook-signature": both,
        name: sign_platform(OTHER_SECRET, BODY),
        f"{name}-next": sign_platform(SECRET, BODY),
    }
    assert failed(ReceivedRequest(rotated, BODY)) == ([], "")


def test_a_damaged_or_strange_body_has_no_cause_but_is_wrong() -> None:
    for body in (gzip.compress(BODY)[:-20] + b"damaged-damaged-dama", b"", b"\xff\xfe\x00", b"[" * 5000):
        assert failed(replace(signed(), body=body))[0] == ["signature"]


def test_a_request_without_a_time_says_that_it_was_not_checked() -> None:
    request = signed()
    without = {name: text for name, text in request.headers.items() if name != "webhook-timestamp"}
    findings = verify_request(ReceivedRequest(without, BODY), SECRET, NOON, PLATFORM_HEADER)
    assert "webhook-timestamp is missing, so the time is not checked" in findings[1].message
