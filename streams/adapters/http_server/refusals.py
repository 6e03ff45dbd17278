"""Responses of the HTTP server itself, before a request reaches the application."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from streams.core.errors import problem_type
from streams.ids import new_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is closed: `reason` is the metric's label; the other fields make an RFC 9457 problem."""

    reason: str
    status: HTTPStatus
    title: str
    detail: str
    retry_after_seconds: int | None = None

    @property
    def name(self) -> str:
        """The short name of the problem."""
        return self.reason.replace("_", "-")

    def response(self, default_headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """The whole HTTP response. It closes the connection."""
        request_id = new_id("req")
        problem = {
            "type": problem_type(self.name),
            "title": self.title,
            "status": self.status.value,
            "detail": self.detail,
            "requestId": request_id,
        }
        body = json.dumps(problem).encode()
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("X-Request-Id", request_id),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if self.retry_after_seconds is not None:
            headers.append(("Retry-After", str(self.retry_after_seconds)))
        head = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        head += [name + b": " + value for name, value in default_headers]
        head += [f"{name}: {value}".encode() for name, value in headers]
        return b"\r\n".join([*head, b"", body])


BAD_REQUEST = Refusal(
    "bad_request", HTTPStatus.BAD_REQUEST, "The request is not valid HTTP", "Send a request that RFC 9112 allows."
)
BAD_HOST = Refusal(
    "bad_request", HTTPStatus.BAD_REQUEST, "The request is not valid HTTP", "Send exactly one Host header."
)
BAD_LENGTH = Refusal(
    "bad_request",
    HTTPStatus.BAD_REQUEST,
    "The request is not valid HTTP",
    "Send one Content-Length, or Transfer-Encoding: chunked, and not both.",
)
TOO_MANY_PIPELINED = Refusal(
    "bad_request",
    HTTPStatus.BAD_REQUEST,
    "Too many requests without waiting for a response",
    "Wait for the responses before you send more requests on this connection.",
)
HEADERS_TOO_LARGE = Refusal(
    "headers_too_large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The headers are too large",
    "Send at most 64 KiB of URL and headers, in at most 100 lines.",
)
BODY_TOO_LARGE = Refusal(
    "too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large", "Send a body of at most 1 MiB."
)
TIMEOUT = Refusal(
    "timeout",
    HTTPStatus.REQUEST_TIMEOUT,
    "The request took too long to arrive",
    "Send the headers within 10 seconds and the body within 30 seconds.",
)
TOO_MANY_CONNECTIONS = Refusal(
    "too_many_connections",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many connections",
    "Try again in a few seconds, and reuse connections.",
    retry_after_seconds=5,
)
