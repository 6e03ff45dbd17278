"""Verify a request that a receiver got, and say which check fails."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from scorm_webhooks_cli.input_file import read_input
from scorm_webhooks_cli.output import JsonOption, show
from scorm_webhooks_cli.receiver_options import DEFAULT_PLATFORM_HEADER, HeaderOption, SecretOption
from scorm_webhooks_cli.text import say
from scorm_webhooks_cli.verification import ReceivedRequest, verify_request
from streams.core.errors import FieldError, Invalid

MAX_INPUT_BYTES = 4 * 1024 * 1024


def verify(
    secret: SecretOption,
    platform_header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    any_time: Annotated[bool, typer.Option("--any-time", help="For a stored request: accept an old one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a request on standard input, and say which check fails: secret, header, clock, body or encoding.

    It has the request's headers, an empty line, and its body; or an item of `webhooks pull`. Exit code 1 if the
    request is not genuine.

    Example: `scorm-webhooks verify --secret whsec_… < request.txt`
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise Invalid(FieldError("standard input", "must have the request: its headers, an empty line, its body"))
    request = parse_request(read_input("-", MAX_INPUT_BYTES))
    findings = verify_request(request, secret, datetime.now(UTC), platform_header, any_time=any_time)
    is_genuine = all(finding.is_right for finding in findings)
    if as_json:
        failed = [finding.check for finding in findings if not finding.is_right]
        checks = [{"name": one.check, "passed": one.is_right, "message": one.message} for one in findings]
        show({"genuine": is_genuine, "failed": failed, "checks": checks}, as_json)
    else:
        for finding in findings:
            say(f"{'right' if finding.is_right else 'WRONG'}  {finding.check:<10} {finding.message}")
        say("The request is genuine." if is_genuine else "The request is not genuine, or it was changed on its way.")
    if not is_genuine:
        raise typer.Exit(1)


def parse_request(content: bytes) -> ReceivedRequest:
    """The request of a text: headers, an empty line and the body, as in HTTP; or an item of a pull, as JSON.

    Raises `Invalid`.
    """
    if (item := _parse_item(content)) is not None:
        return item
    head, separator, body = _split(content)
    lines = head.decode("latin-1").splitlines()
    # The line of the request, such as `POST /hook HTTP/1.1`.
    if lines and ":" not in lines[0].split(" ", 1)[0]:
        lines = lines[1:]
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid(FieldError("standard input", f"{line!r} is not a header of the form 'Name: value'"))
        headers[name.strip().lower()] = value.strip()
    if not separator or not headers:
        raise Invalid(FieldError("standard input", "must have headers, then an empty line, then the body"))
    return ReceivedRequest(headers, body)


def _split(content: bytes) -> tuple[bytes, bytes, bytes]:
    ends = [(place, end) for end in (b"\r\n\r\n", b"\n\n") if (place := content.find(end)) >= 0]
    _, end = min(ends, default=(0, b"\n\n"))
    return content.partition(end)


def _parse_item(content: bytes) -> ReceivedRequest | None:
    """The request of `{"headers": …, "body": …}`; None for anything else."""
    try:
        item = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, Mapping) or not isinstance(item.get("headers"), Mapping):
        return None
    body = item.get("body")
    if not isinstance(body, str):
        raise Invalid(FieldError("standard input", "`body` must be the exact text of the request's body"))
    headers = {str(name).lower(): str(value) for name, value in item["headers"].items()}
    try:
        "".join((*headers, *headers.values())).encode()
        return ReceivedRequest(headers, body.encode())
    except UnicodeEncodeError:
        raise Invalid(FieldError("standard input", "must be valid Unicode")) from None
