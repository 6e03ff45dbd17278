"""A person asks why a request does not verify, with the request as a file or as an item of a pull."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner, Result

from builders import SECRET
from scorm_webhooks_cli.exam_checks import ExamRequest, sample_request
from scorm_webhooks_cli.verify import parse_request
from streams.cli.app import app
from streams.core.errors import Invalid

PLATFORM_HEADER = "X-AllureConnect-Signature"


def sample() -> ExamRequest:
    return sample_request(SECRET, PLATFORM_HEADER, "evt_1", datetime.now(UTC))


def as_http(request: ExamRequest, end: str = "\r\n") -> bytes:
    lines = ["POST /hook HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]
    return end.join(lines).encode() + request.body


def verify(content: bytes, *more: str) -> Result:
    return CliRunner().invoke(app, ["verify", "--secret", SECRET, *more], input=content)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_genuine_request_is_genuine(end: str) -> None:
    done = verify(as_http(sample(), end))
    assert (done.exit_code, "The request is genuine." in done.output) == (0, True)


def test_an_item_of_a_pull_is_verified_as_it_is() -> None:
    request = sample()
    item = {"id": "dlv_1", "headers": dict(request.headers), "body": request.body.decode()}
    assert verify(json.dumps(item).encode()).exit_code == 0


def test_a_body_that_was_written_a_second_time_is_named() -> None:
    request = sample()
    changed = ExamRequest(request.headers, json.dumps(json.loads(request.body)).encode())
    done = verify(as_http(changed), "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["genuine"], result["failed"]) == (1, False, ["body"])
    shown = verify(as_http(changed))
    assert "WRONG  body" in shown.output
    assert SECRET not in shown.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty line"),
        (b"A: b\nno header\n\nbody", "is not a header"),
        (b'{"headers": {"a": "b"}}', "`body` must be the exact text"),
        (b'{"headers": {"a": "\\ud800"}, "body": ""}', "must be valid Unicode"),
    ],
)
def test_what_is_no_request_says_what_would_be_one(content: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_request(content)
