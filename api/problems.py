"""Errors as RFC 9457 problem details, each with what the caller can do about it."""

from collections.abc import Awaitable, Mapping, Sequence
from email.message import Message
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from streams.core.accounts.usage import MONTH_FORM
from streams.core.errors import (
    Conflict,
    Ended,
    FieldError,
    Forbidden,
    Invalid,
    InvalidRecord,
    Misconfigured,
    NewerRecord,
    NotAcknowledged,
    NotFound,
    RowRefused,
    ScormWebhooksError,
    Stale,
    Unauthorized,
    Unavailable,
    problem_type,
)
from streams.core.events.event_data import EVENT_TYPE_FORM
from streams.core.ids import ID_DESCRIPTION, ID_PATTERN
from streams.core.limits import MAX_ERROR_DETAIL_CHARACTERS
from streams.core.text import shorten
from streams.core.webhooks.auth import AuthType
from streams.ports.runtime import Telemetry

MEDIA_TYPE = "application/problem+json"


class TooManyRequests(ScormWebhooksError):
    """More requests than a limit allows; `retry_seconds` is the time to wait."""

    def __init__(self, retry_seconds: int, request_kind: str = "requests with this key") -> None:
        super().__init__(f"too many {request_kind}: wait {retry_seconds} second{'s' * (retry_seconds != 1)}")
        self.retry_seconds = retry_seconds


# (status, short name, title, heading of the page for a person; None: it has no page)
ErrorKind = tuple[int, str, str, str | None]
_KINDS: Mapping[type[ScormWebhooksError], ErrorKind] = {
    Invalid: (Invalid.STATUS, Invalid.NAME, Invalid.TITLE, "Something is wrong with what you entered"),
    NotFound: (404, "not-found", "Not found", "Not found"),
    Unauthorized: (401, "unauthorized", "An API key is needed", "Not signed in"),
    Forbidden: (403, "forbidden", "The API key has no permission for this", "Not allowed"),
    Conflict: (409, "conflict", "Conflicts with the current state", "This cannot be done now"),
    Stale: (412, "stale", "It was changed since it was read", "It was changed since you opened the page"),
    Ended: (410, "ended", "It has ended", None),
    TooManyRequests: (429, "too-many-requests", "Too many requests", "Too many requests"),
    RowRefused: (422, "refused", "The database does not accept this", "The database does not accept this"),
    NewerRecord: (409, "newer-release", "A newer release of this system wrote it", "A newer release wrote this"),
    InvalidRecord: (500, "undecryptable", "A stored secret cannot be decrypted", "A stored secret cannot be decrypted"),
    Misconfigured: (500, "misconfigured", "A setting of this system is wrong", None),
    Unavailable: (503, "unavailable", "Kafka or the database does not answer", "The database or Kafka does not answer"),
}
# The messages of these errors are for operators, in the log.
LOG_ONLY_ERRORS = (RowRefused, InvalidRecord, Unavailable)
# Messages of pydantic by the type of its error, rewritten for people; {…} is from the error's context.
_MESSAGES = {
    "extra_forbidden": "is not a field here",
    "missing": "is required",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "enum": "must be one of: {expected}",
    "literal_error": "must be one of: {expected}",
}
# What a text must be, by a part of its pattern.
_FORMS = {
    ID_PATTERN.pattern: f"must be an id: {ID_DESCRIPTION}",
    MONTH_FORM: "must be a month such as 2026-04",
    EVENT_TYPE_FORM: "must be a type of event such as session.completed",
}
_HTTP_NAMES = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "not-json"}
# The name of a problem that no other name fits.
_OTHER_NAME = "error"
# A bug in this application.
BROKEN: tuple[int, str, str] = (500, "broken", "The request failed because of an error in our own code")
NOT_JSON_MESSAGE = "Send the body as JSON, with the header `Content-Type: application/json`"


def problem_kinds() -> list[tuple[str, str, str]]:
    """Name, status and title of each problem, for its page; HTTP refusals have HTTP's own titles."""
    status, name, title = BROKEN
    return [
        *((kind_name, str(kind_status), kind_title) for kind_status, kind_name, kind_title, _ in _KINDS.values()),
        *(
            (http_name, str(http_status), HTTPStatus(http_status).phrase)
            for http_status, http_name in _HTTP_NAMES.items()
        ),
        (name, str(status), title),
        (_OTHER_NAME, "4xx", "The title is the reason"),
    ]


def problem(
    request: Request,
    status: int,
    name: str,
    title: str,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem's response, at most 64 KiB."""
    body: dict[str, Any] = {"type": problem_type(name), "title": title, "status": status}
    if detail:
        body["detail"] = shorten(detail, MAX_ERROR_DETAIL_CHARACTERS)
    return _response(request, body, headers)


def _response(request: Request, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    full_body = {**body, "requestId": request.state.request_id}
    return JSONResponse(full_body, body["status"], dict(headers or {}), MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Turn our exceptions, validation errors and routing errors into problems."""
    for kind in _KINDS:
        app.add_exception_handler(kind, our_problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, http_problem)


async def response_or_problem(request: Request, response_awaitable: Awaitable[Response]) -> Response:
    """The response, or a problem in its place: for code that runs before FastAPI's router and its handlers."""
    try:
        return await response_awaitable
    except ScormWebhooksError as error:
        return await our_problem(request, error)
    except HTTPException as error:
        return await http_problem(request, error)


def kind_of(error: ScormWebhooksError) -> ErrorKind | None:
    """The kind of an exception's class, or of its nearest base class that has one."""
    return next((_KINDS[kind] for kind in type(error).__mro__ if kind in _KINDS), None)


async def our_problem(request: Request, error: Exception) -> JSONResponse:
    """The problem for an exception of `streams.core.errors`."""
    assert isinstance(error, ScormWebhooksError)
    kind = kind_of(error)
    assert kind is not None
    status, name, title, _ = kind
    telemetry: Telemetry = request.app.state.services.telemetry
    headers: dict[str, str] = {}
    if isinstance(error, Invalid):
        return _response(request, error.to_problem())
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="scorm-webhooks"'
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_seconds)
    if isinstance(error, Unavailable):
        headers["Retry-After"] = "5"
    if isinstance(error, Misconfigured):
        # Its message names settings, which only operators may see.
        telemetry.error("request_misconfigured", request_id=request.state.request_id, why=str(error))
        return problem(
            request, status, name, title, "its operator finds the reason in the log, under this request's id"
        )
    if isinstance(error, LOG_ONLY_ERRORS):
        telemetry.info("request_failed", request_id=request.state.request_id, why=str(error))
    return problem(request, status, name, title, public_detail(error), headers=headers)


def public_detail(error: ScormWebhooksError) -> str:
    """The part of an error that its caller may read, without details for operators."""
    if isinstance(error, NewerRecord):
        return "this release cannot read it: ask again when the upgrade is complete"
    is_internal = isinstance(error, Unavailable | RowRefused) and not isinstance(error, NotAcknowledged)
    return "try again in a few seconds" if is_internal else str(error)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(item["type"] == "json_invalid" for item in errors):
        detail = f"{errors[0].get('ctx', {}).get('error')} at character {errors[0]['loc'][-1]}"
        return problem(request, 400, "bad-request", "The body is not JSON", detail)
    if any(item["loc"] == ("body",) for item in errors) and not is_json(request.headers.get("content-type", "")):
        return problem(request, 415, _HTTP_NAMES[415], NOT_JSON_MESSAGE)
    return _response(request, to_invalid(error).to_problem())


def to_invalid(error: RequestValidationError) -> Invalid:
    """The errors of pydantic, in words for people."""
    return Invalid(*(FieldError(field_path(item["loc"]), _message(item)) for item in error.errors()))


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "string_pattern_mismatch":
        return next((words for form, words in _FORMS.items() if form in error["ctx"]["pattern"]), "has another form")
    if error["type"] in ("too_short", "too_long") and isinstance(error["input"], str):
        # A constraint on the text of a union.
        error = {**error, "type": f"string_{error['type']}"}
    if template := _MESSAGES.get(error["type"]):
        return template.format_map(error.get("ctx", {}))
    # Pydantic's prefix for messages of this application's validators.
    return str(error["msg"]).removeprefix("Value error, ")


def is_json(content_type: str) -> bool:
    """Whether a content type says that a body is JSON (RFC 6839 §3.1)."""
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


async def http_problem(request: Request, error: Exception) -> JSONResponse:
    """A refusal by routing or parsing, as a problem."""
    assert isinstance(error, HTTPException)
    name = _HTTP_NAMES.get(error.status_code, _OTHER_NAME)
    if error.status_code == 400 and error.__cause__ is None:
        return problem(request, 400, name, "The body is not JSON", str(error.detail))
    if error.status_code == 400:  # The body could not be parsed, and its syntax is not the reason.
        is_too_deep = isinstance(error.__cause__, RecursionError)
        detail = "It is nested too deeply." if is_too_deep else "It contains a number or a text that cannot be read."
        return problem(request, 400, name, "The body cannot be read as JSON", detail)
    return problem(request, error.status_code, name, str(error.detail), headers=error.headers)


# Pydantic names the member of a union in its locations. These are no fields.
_UNION_TAGS = frozenset(AuthType)


def field_path(location: Sequence[int | str]) -> str:
    """A path such as `events[0].data` for pydantic's location of an error."""
    text = ""
    for part in location[1:] if location[:1] in (("body",), ("query",), ("path",), ("header",)) else location:
        if text == "auth" and part in _UNION_TAGS:
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "body"
