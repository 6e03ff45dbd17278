"""The OpenAPI document: FastAPI's, with the errors of each route."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.events.schemas import BATCH, EVENT, event_schemas, webhook_requests
from api.problems import MEDIA_TYPE
from streams.core.limits import MAX_ERRORS_SHOWN

DESCRIPTION = """
Register webhooks, see what was delivered to them and why something was not, and act on it.

Send `Authorization: Bearer <API key>`. Names are camelCase; absent values are left out; times are UTC. Lists are
newest first: `nextCursor` is the `cursor` of the next page. Every response has an `X-Request-Id`. Every error is a
problem of RFC 9457, with `errors` that name the fields. A POST with an `Idempotency-Key` can be repeated: it is done
once.
"""

_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457); `type` identifies its kind.",
    "type": "object",
    "required": ["type", "title", "status", "requestId"],
    "properties": {
        "type": {"type": "string", "examples": ["/docs/problems#invalid"]},
        "title": {"type": "string", "examples": ["Some fields are wrong"]},
        "status": {"type": "integer", "examples": [422]},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "maxItems": MAX_ERRORS_SHOWN,
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "examples": ["url"]},
                    "message": {"type": "string", "examples": ["must start with https://"]},
                },
            },
        },
        "omittedErrors": {"type": "integer", "minimum": 1, "description": "The number of errors that are not shown."},
        "requestId": {"type": "string", "examples": ["req_01HYX9K2M3N4P5Q6R7S8T9V0W1"]},
    },
}
_PROBLEM_DESCRIPTIONS = {
    "400": "The body is not JSON.",
    "401": "No API key, or an unknown, revoked or expired one.",
    "403": "The key has no permission for this.",
    "404": "There is no such object in this account.",
    "405": "Not a method of this resource.",
    "409": "Conflicts with the current state.",
    "412": "It was changed since it was read.",
    "408": "The request took too long to arrive.",
    "413": "The body is larger than 1 MiB.",
    "422": "Some fields are wrong.",
    "431": "The URL and the headers are larger than 64 KiB.",
    "429": "Too many requests: `Retry-After` says how long to wait.",
    "503": "Kafka or the database does not answer: try again.",
}
_IDEMPOTENCY_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text. The same request with the same key is done once within a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def complete_openapi(app: FastAPI) -> None:
    """Add what FastAPI leaves out to the document that `app.openapi` returns."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            origin = app.state.site.origin
            app.openapi_schema = _complete_schema(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                    servers=[{"url": origin}] if origin else None,
                )
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete_schema(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema["components"]
    components["schemas"] = {
        name: model for name, model in components["schemas"].items() if "ValidationError" not in name
    }
    components["schemas"]["Problem"] = _PROBLEM
    components["responses"] = {
        f"Problem{status}": {
            "description": message,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, message in _PROBLEM_DESCRIPTIONS.items()
    }
    components["schemas"] |= event_schemas()
    body = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"] = {"anyOf": [{"$ref": EVENT}, {"$ref": BATCH}], "title": "One event or several"}
    schema["webhooks"] = webhook_requests()
    for operations in schema["paths"].values():
        for method, operation in operations.items():
            operation["responses"] |= {
                status: {"$ref": f"#/components/responses/Problem{status}"} for status in _PROBLEM_DESCRIPTIONS
            }
            if method == "post":
                operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY_PARAMETER)
    return schema
