"""One POST and its answer over a connection of aiohttp's pool."""

import re
from collections.abc import Mapping

from aiohttp import ClientConnectionResetError, ClientRequest, ClientTimeout, StreamReader, TCPConnector
from yarl import URL

from streams.adapters.http_failures import printable
from streams.core.attempt import ANSWER_KEPT_BYTES
from streams.core.outcome import Answer, Failure, Kind
from streams.core.request import Request

ANSWER_READ_BYTES = 64 * 1024
MOST_HEADERS = 32
MOST_HEADER_CHARACTERS = 1024
FRAMING = {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
_NO_TIMEOUT = ClientTimeout()
# A customer's gateway may want others. Without the second one, any compression would be acceptable.
_DEFAULTS = {"accept": "Accept: */*", "accept-encoding": "Accept-Encoding: identity"}


class Target:
    """Where a URL leads: how aiohttp's connector knows it, and how each request to it begins. Needs a running loop."""

    def __init__(self, url: URL) -> None:
        self.dial = ClientRequest("POST", url)
        self.begins = f"POST {url.raw_path_qs} HTTP/1.1\nHost: {self.dial.headers['Host']}\n"


async def exchange(connector: TCPConnector, target: Target, request: Request) -> Answer | Failure:
    """Send the request's bytes as they are; the answer, of whose body 64 KiB are read and `ANSWER_KEPT_BYTES` kept.

    aiohttp opens, checks, keeps and parses; its session, which would build anew for each request what is known
    already, costs as much as all of that (decision 0002). Raises what aiohttp raises, ValueError for a header
    that would change where a request ends.
    """
    head = _head(target, request)
    connection = await connector.connect(target.dial, [], _NO_TIMEOUT)
    try:
        handler, transport = connection.protocol, connection.transport
        if handler is None or transport is None:
            raise ClientConnectionResetError("closed as soon as it was open")
        handler.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=ANSWER_READ_BYTES // 2)
        transport.write(head + request.body)
        message, content = await handler.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, content = await handler.read()
        if not 200 <= message.code < 600:
            return Failure(Kind.JUNK_ANSWER, f"status {message.code}")
        answer = Answer(message.code, _kept(message.headers), await _start_of(content))
        if content.is_eof() and not transport.get_write_buffer_size():
            connection.release()
        return answer
    finally:
        # Whatever is left of the answer, or of a request that was answered early, would be in the next one's way.
        connection.close()


def _head(target: Target, request: Request) -> bytes:
    """The request line and all headers.

    Connections to a host are shared by its customers: nobody may make his request swallow the next one.
    """
    for name in request.private:
        if not _TOKEN.fullmatch(name) or name.lower() in FRAMING:
            raise ValueError(f"the header {name} cannot be set by a webhook")
    theirs = {name.lower() for name in request.private}
    lines = [line for name, line in _DEFAULTS.items() if name not in theirs]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines.append(f"Content-Length: {len(request.body)}")
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or "\r" in text or "\0" in text:
        raise ValueError("a header holds a line break or a null")
    return f"{target.begins}{text}\n\n".replace("\n", "\r\n").encode()


async def _start_of(content: StreamReader) -> bytes:
    """What is kept of a body, as it came over the wire; more of it is read than kept, so that most end."""
    kept = bytearray()
    read = 0
    while read < ANSWER_READ_BYTES and (chunk := await content.readany()):
        read += len(chunk)
        kept += chunk[: ANSWER_KEPT_BYTES - len(kept)]
    return bytes(kept)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The first headers, and wherever it stands the one that asks for a pause."""
    kept: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        if len(kept) < MOST_HEADERS or name == "retry-after":
            kept.setdefault(name[:MOST_HEADER_CHARACTERS], printable(value[:MOST_HEADER_CHARACTERS]))
    return kept
