"""Send a receiver what production sends, and report its mistakes."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import typer

from scorm_webhooks_cli.connection_errors import no_response_reason
from scorm_webhooks_cli.exam_checks import Check, Exam, ExamRequest
from scorm_webhooks_cli.output import JsonOption, show
from scorm_webhooks_cli.profiles import find_target
from scorm_webhooks_cli.receiver_options import (
    DEFAULT_PLATFORM_HEADER,
    DEFAULT_USER_AGENT,
    AgentOption,
    HeaderOption,
    SecretOption,
    UrlArgument,
    checked_secret,
)
from scorm_webhooks_cli.text import hint, say
from streams.core.deliveries.signing import SECRET_BYTES, make_secret
from streams.core.errors import Invalid, Misconfigured
from streams.core.webhooks.url import url_errors
from streams.ids import new_id

RESPONSE_SECONDS = 10.0
SLOW_PIECES, SLOW_PAUSE_SECONDS = 8, 0.4
UNREACHABLE_EXIT_CODE = 3
_UNSEEN = "The exam sees only responses. Look yourself whether `duplicate` and `order` did their work just once."


def exam(
    url: UrlArgument,
    secret: SecretOption,
    signature_header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    user_agent: AgentOption = DEFAULT_USER_AGENT,
    as_json: JsonOption = False,
) -> None:
    """Send a receiver what production sends: duplicates, wrong signatures, old, late, large and slow requests.

    Use a copy of your receiver: it gets events of a session that does not exist. They come from this machine alone.
    Exit code 1 if the receiver fails, and 3 if it cannot be reached.

    Example: `scorm-webhooks exam http://localhost:3000/hook --secret whsec_…`
    """
    if errors := url_errors("URL", url, allow_http=True):
        raise Invalid(*errors)
    exam = Exam(
        checked_secret(secret),
        make_secret(secrets.token_bytes(SECRET_BYTES)),
        signature_header,
        new_id("exam").removeprefix("exam_"),
        datetime.now(UTC),
    )
    results = asyncio.run(_run_checks(url, exam.checks(), user_agent, is_quiet=as_json))
    failed = [result["name"] for result in results if not result["passed"]]
    if as_json:
        show({"passed": not failed, "failed": failed, "checks": results}, as_json)
    elif failed:
        say(f"{len(results) - len(failed)} of {len(results)} right; to repair: {', '.join(failed)}")
    else:
        say(f"All {len(results)} right.")
        hint(_UNSEEN)
    if failed:
        raise typer.Exit(1)


async def _run_checks(
    url: str, checks: Sequence[Check], user_agent: str, *, is_quiet: bool
) -> Sequence[Mapping[str, Any]]:
    """The result of each check. Exits if no connection to the receiver can be opened."""
    results: list[Mapping[str, Any]] = []
    own = {"User-Agent": user_agent}
    async with httpx2.AsyncClient(
        headers=own, follow_redirects=False, trust_env=False, timeout=RESPONSE_SECONDS
    ) as client:
        for check in checks:
            try:
                result = await _result(client, url, check)
            except httpx2.ConnectError as error:
                say(f"error: {url} does not answer: {no_response_reason(url, error)}", err=True)
                raise typer.Exit(UNREACHABLE_EXIT_CODE) from None
            results.append(result)
            if not is_quiet:
                _say_result(check, result)
    return results


async def _result(client: httpx2.AsyncClient, url: str, check: Check) -> Mapping[str, Any]:
    """Send the requests of a check, up to the first wrong response."""
    began_at, response = time.monotonic(), ""
    is_passed = True
    for request in check.requests:
        status, response = await _send(client, url, request)
        is_passed = status is not None and check.is_right(status)
        if not is_passed:
            break
    result = {
        "name": check.name,
        "passed": is_passed,
        "sent": check.meaning,
        "response": response,
        "milliseconds": round(1000 * (time.monotonic() - began_at)),
    }
    if is_passed:
        return result
    right = "a refusal with 4xx" if check.must_refuse else f"2xx within {RESPONSE_SECONDS:g} seconds"
    return {
        **result,
        "right": right,
        "advice": check.advice,
        "documentation": f"{_documentation_url()}#{check.section}",
    }


def _documentation_url() -> str:
    """The address of the page about receivers at the configured API. The exam itself needs no API."""
    try:
        target = find_target()
    except Misconfigured:
        target = None
    return f"{target.url.rstrip('/')}/docs/receiving.html" if target else "receiving.html"


async def _send(client: httpx2.AsyncClient, url: str, request: ExamRequest) -> tuple[int | None, str]:
    """The status of a response in time, if any, and its description."""
    headers = {**request.headers, "Content-Length": str(len(request.body))}
    slow_seconds = SLOW_PIECES * SLOW_PAUSE_SECONDS if request.is_slow else 0.0
    try:
        async with asyncio.timeout(RESPONSE_SECONDS + slow_seconds):
            content = _in_pieces(request.body) if request.is_slow else request.body
            async with client.stream("POST", url, content=content, headers=headers) as response:
                return response.status_code, str(response.status_code)
    except httpx2.ConnectError:
        raise
    except (TimeoutError, httpx2.TimeoutException):
        return None, f"no response within {RESPONSE_SECONDS:g} seconds"
    except httpx2.HTTPError as error:
        return None, f"no response: {no_response_reason(url, error)}"


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    size = -(-len(body) // SLOW_PIECES)
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(SLOW_PAUSE_SECONDS)


def _say_result(check: Check, result: Mapping[str, Any]) -> None:
    mark = "right" if result["passed"] else "WRONG"
    say(f"{mark}  {check.name:<10} {check.meaning}: {result['response']}")
    if not result["passed"]:
        say(f"       {'':<10} Right is {result['right']}. {check.advice}")
        say(f"       {'':<10} See {result['documentation']}")
