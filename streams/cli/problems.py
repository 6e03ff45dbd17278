"""A response of the API, as the JSON in it or as an exception."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streams.core.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Misconfigured,
    NotFound,
    ScormWebhooksError,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx2

URL_VARIABLE = "SCORM_WEBHOOKS_API_URL"
KEY_VARIABLE = "SCORM_WEBHOOKS_API_KEY"
_ERRORS: Mapping[int, type[ScormWebhooksError]] = {403: Forbidden, 404: NotFound}


def result_of(response: "httpx2.Response") -> Any:
    """The JSON of a response; None without a body. Raises the exception of a problem (RFC 9457)."""
    if response.is_success and not response.content:
        return None
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    is_problem = isinstance(body, dict) and isinstance(body.get("type"), str)
    if response.is_success and body is not None:
        return body
    if response.is_redirect or not is_problem:
        moved = f" to {response.headers['location']}" if "location" in response.headers else ""
        url = response.url.copy_with(query=None)
        raise Unavailable(f"{url} responded with {response.status_code}{moved}: is {URL_VARIABLE} the URL of the API?")
    raise error_of(body)


def retry_seconds(response: "httpx2.Response") -> int | None:
    """How long to wait before the request is sent again; None if it should not be."""
    text = response.headers.get("retry-after", "")
    return int(text) if response.status_code == 429 and text.isascii() and text.isdigit() else None


def error_of(problem: Mapping[str, Any]) -> ScormWebhooksError:
    """The exception of a problem."""
    status, message = problem.get("status"), str(problem.get("detail") or problem.get("title"))
    if status == 401:
        return Misconfigured(f"{KEY_VARIABLE}: the API does not know this key, or it has ended")
    if errors := problem.get("errors"):
        return Invalid(*(FieldError(str(error["field"]), str(error["message"])) for error in errors))
    if status == 429 or not isinstance(status, int) or status >= 500:
        return Unavailable(f"{problem.get('title')}: {message} (request {problem.get('requestId')})")
    return _ERRORS.get(status, Conflict)(message)
