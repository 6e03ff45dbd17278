"""Files for everybody: each is made and compressed once, and sent in pieces as its client reads them."""

import gzip
import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.admission import class_of, place
from streams.core.queues.request_class import RequestClass

# The most memory of one response, beside the file that all responses share.
PIECE_BYTES = 64 * 1024


class PublicFile:
    """A file of a media type, given by its content, or by its content compressed with gzip.

    A text is compressed at once. Compressed content is unpacked once, for the first client that does not accept gzip.
    """

    def __init__(self, media_type: str, content: bytes | None = None, compressed: bytes | None = None) -> None:
        self.media_type = media_type
        if compressed is None and content is not None and not media_type.startswith("image/png"):
            compressed = gzip.compress(content, 6, mtime=0)
        self._compressed = compressed
        self._stored = content
        # Weak, because both forms have it.
        self.etag = f'W/"{hashlib.sha256(content or compressed or b"").hexdigest()[:16]}"'

    def read(self) -> bytes:
        """The content, which is not kept if it was given compressed."""
        return gzip.decompress(self._compressed or b"") if self._stored is None else self._stored

    @cached_property
    def _content(self) -> bytes:
        return self.read()

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """The file in the form that the client accepts; 304 without a body if the client has it."""
        headers = {**headers, "ETag": self.etag}
        if self._compressed is not None:
            headers["Vary"] = "Accept-Encoding"
        if self.etag.removeprefix("W/") in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if self._compressed is not None and accepts_gzip(request):
            return _PieceResponse(self._compressed, 200, {**headers, "Content-Encoding": "gzip"}, self.media_type)
        return _PieceResponse(self._content, 200, headers, self.media_type)


class _PieceResponse(Response):
    """Ends when the client has read nearly all of it: a slow client keeps its place, and little memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), PIECE_BYTES):
            # The server waits for the client before it takes the next piece.
            piece = bytes(self.body[start : start + PIECE_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class PublicRoute(APIRoute):
    """A route that needs neither key nor session. Its client's network has a place until the response is sent."""

    request_class = RequestClass.PUBLIC

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.request_class = class_of(self)
        if self.methods and "GET" in self.methods:
            self.methods.add("HEAD")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with place(Request(scope), self.request_class):
            await super().handle(scope, receive, send)


def accepts_gzip(request: Request) -> bool:
    """Whether a client accepts gzip (RFC 9110 §12.5.3): a weight of 0, for gzip or for all encodings, means no."""
    weights: dict[str, bool] = {}
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = part.replace(" ", "").partition(";q=")
        weights[name] = weight.strip("0.") != "" or not weight
    return weights.get("gzip", weights.get("*", False))
