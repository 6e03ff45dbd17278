"""Convert a response of the API to its JSON, or to an exception."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scorm_webhooks_cli.profiles import ApiTarget
from streams.core.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Misconfigured,
    NotFound,
    ScormWebhooksError,
    Stale,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx2

MAX_RETRY_AFTER_DIGITS = 6
_ERRORS_BY_STATUS: Mapping[int, type[ScormWebhooksError]] = {403: Forbidden, 404: NotFound, 412: Stale}


def json_or_raise(response: "httpx2.Response", target: ApiTarget) -> Any:
    """The JSON of a response; None without a body. Raises the exception for a problem document (RFC 9457)."""
    if response.is_success and not response.content:
        return None
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if response.is_success and body is not None:
        return body
    is_problem = isinstance(body, dict) and isinstance(body.get("type"), str)
    # The API responds to an unknown path with a problem without `detail`.
    if not is_problem or (response.status_code == 404 and "detail" not in body):
        location = response.headers.get("location")
        place = f" to {location}" if location else ""
        url = response.url.copy_with(query=None)
        raise Unavailable(
            f"{url} responded with {response.status_code}{place}: is {target.url_name} the URL of the API?"
        )
    raise _to_error(response.status_code, body, target.key_name)


def retry_after_seconds(response: "httpx2.Response") -> int | None:
    """Seconds to wait before sending the request again. None if it must not be repeated."""
    text = response.headers.get("retry-after", "")
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_RETRY_AFTER_DIGITS
    return int(text) if response.status_code == 429 and is_number else None


def _to_error(status: int, problem: Mapping[str, Any], key_name: str) -> ScormWebhooksError:
    title = str(problem.get("title"))
    message = str(problem.get("detail") or title)
    if status == 401:
        return Misconfigured(f"{key_name}: the API does not accept this key: it is unknown, revoked or expired")
    if errors := _field_errors(problem):
        return Invalid(*errors)
    if status == 429 or status >= 500:
        reason = message if message == title else f"{title}: {message}"
        return Unavailable(f"{reason} (request {problem.get('requestId')})")
    return _ERRORS_BY_STATUS.get(status, Conflict)(message)


def _field_errors(problem: Mapping[str, Any]) -> Sequence[FieldError]:
    items = problem.get("errors")
    if not isinstance(items, list):
        return ()
    errors = [
        FieldError(str(item.get("field")), str(item.get("message"))) for item in items if isinstance(item, Mapping)
    ]
    if omitted_count := problem.get("omittedErrors"):
        errors.append(FieldError("errors", f"{omitted_count} more"))
    return errors
