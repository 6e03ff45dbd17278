"""One POST and its answer over a connection of aiohttp's pool."""

import re
from collections.abc import Collection
from functools import cached_property
from typing import cast

from aiohttp import ClientRequest, ClientTimeout
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from streams.adapters.guarded_connector import GuardedConnector
from streams.adapters.http_answers import Handler
from streams.core.outcome import Answer
from streams.core.request import Request

FRAMING = {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
_NO_TIMEOUT = ClientTimeout()
# A customer's gateway may want others. Without the second one, any compression would be acceptable.
_DEFAULTS = {"accept": "Accept: */*\r\n", "accept-encoding": "Accept-Encoding: identity\r\n"}


class _Dial(ClientRequest):
    """What aiohttp's connector has to know of a URL; its key to the pool is made once and not for each request."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class Target:
    """Where a URL leads: how aiohttp's connector knows it, and how each request to it begins. Needs a running loop."""

    def __init__(self, url: URL) -> None:
        self.dial = _Dial("POST", url)
        self.begins = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {self.dial.headers['Host']}\r\n"


async def exchange(connector: GuardedConnector, target: Target, request: Request, deadline: float) -> Answer:
    """Send the request's bytes as they are; the answer, as much of it as `Handler` reads and keeps until `deadline`.

    aiohttp opens, checks and keeps connections, llhttp parses; aiohttp's session, which would build anew for each
    request what is known already, costs more than all of that (decision 0002). Raises what these raise, ValueError
    for a header that would change where a request ends.
    """
    head = _head(target, request)
    connection = await connector.connect(target.dial, [], _NO_TIMEOUT)
    try:
        handler = cast(Handler, connection.protocol)
        answer = await handler.ask(head + request.body, deadline)
        if handler.may_be_asked_again:
            connection.release()
        return answer
    finally:
        # Whatever is left of the answer, or of a request that was answered early, would be in the next one's way.
        connection.close()


def _head(target: Target, request: Request) -> bytes:
    """The request line and all headers.

    Connections to a host are shared by its customers: nobody may make his request swallow the next one.
    """
    defaults: Collection[str] = _DEFAULTS.values()
    if request.private:
        for name in request.private:
            if not _TOKEN.fullmatch(name) or name.lower() in FRAMING:
                raise ValueError(f"the header {name} cannot be set by a webhook")
        theirs = {name.lower() for name in request.private}
        defaults = [line for name, line in _DEFAULTS.items() if name not in theirs]
    headers = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    text = f"{target.begins}{''.join(defaults)}{''.join(headers)}Content-Length: {len(request.body)}\r\n\r\n"
    # The request line, Host, Content-Length and the end.
    lines = 4 + len(defaults) + len(headers)
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise ValueError("a header holds a line break or a null")
    return text.encode()
