"""Sends the POST of one attempt by aiohttp: the bytes as they were signed, all of it within one deadline."""

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, DummyCookieJar, StreamReader
from yarl import URL

from streams.adapters.guarded_connector import TRAIL, GuardedConnector, Lookup, Trail
from streams.adapters.http_failures import failure_of, printable
from streams.core.address import Network
from streams.core.attempt import ANSWER_KEPT_BYTES
from streams.core.errors import Misconfigured
from streams.core.outcome import Answer, Failure, Kind
from streams.core.request import Request
from streams.core.url import url_errors

TIMEOUT_SECONDS = 10.0
CONNECTION_LIFE_SECONDS = 60.0
ANSWER_READ_BYTES = 64 * 1024
MOST_HEADERS = 32
MOST_HEADER_CHARACTERS = 1024
FRAMING = {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2


class HttpSender:
    """A `Sender` that reaches public addresses and the networks that the operator `opened`.

    `timeout_seconds` bounds a whole attempt, from the look-up of the name to the answer's last byte.
    `ca_file` is trusted beside the system's authorities; nothing turns verification off. `lookup` is asked
    for a host's addresses instead of the system. Raises `Misconfigured` when `ca_file` cannot be used.
    """

    def __init__(
        self,
        opened: Sequence[Network] = (),
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        ca_file: Path | None = None,
        lookup: Lookup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opened = opened
        self._timeout_seconds = timeout_seconds
        self._tls = _tls_context(ca_file)
        self._lookup = lookup
        self._monotonic = monotonic
        self._session: ClientSession | None = None  # needs the running loop, so the first attempt opens it

    async def send(self, request: Request) -> Answer | Failure:
        """What the endpoint answered, or why it did not; raises nothing but `CancelledError`."""
        trail = Trail()
        TRAIL.set(trail)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                try:
                    return await self._post(request)
                except ClientConnectionError:
                    if not trail.stale:
                        raise
                # The endpoint had closed the idle connection as it may; that is no failure of its.
                trail.start_over()
                return await self._post(request)
        except Exception as error:
            return failure_of(error, trail)

    async def close(self) -> None:
        """To be called when every attempt has ended."""
        if self._session:
            await self._session.close()

    async def _post(self, request: Request) -> Answer | Failure:
        session = self._session or self._open_session()
        target = _target(request.url)
        _check_names(request.private)
        response = await session.post(target, data=request.body, headers=request.headers, allow_redirects=False)
        try:
            if not 200 <= response.status < 600:
                return Failure(Kind.JUNK_ANSWER, f"status {response.status}")
            return Answer(response.status, _kept(response.headers), await _start_of(response.content))
        finally:
            if not response.closed:  # an answer that was read to its end has given its connection back
                response.close()

    def _open_session(self) -> ClientSession:
        # What begins at the end of a connection's life may last for one timeout more.
        life_seconds = CONNECTION_LIFE_SECONDS - self._timeout_seconds
        self._session = ClientSession(
            connector=GuardedConnector(self._opened, self._tls, self._lookup, life_seconds, self._monotonic),
            headers={"Accept-Encoding": "identity"},  # without it, any compression would be acceptable
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=ANSWER_READ_BYTES // 2,
        )
        return self._session


@cache
def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise Misconfigured(
                f"SCORM_WEBHOOKS_CA_FILE: {ca_file} must hold certificates in PEM form ({error})"
            ) from None
    return context


@lru_cache(4096)
def _target(url: str) -> URL:
    """The URL exactly as it was registered; ValueError when it is one that cannot be."""
    if errors := url_errors("url", url, allow_http=True):
        raise ValueError(f"the URL {errors[0].message}")
    return URL(url, encoded=True)


def _check_names(names: frozenset[str]) -> None:
    """Raises ValueError for a customer's header that would change where a request ends.

    Connections to a host are shared by its customers: nobody may make his request swallow the next one.
    """
    for name in names:
        if not _TOKEN.fullmatch(name) or name.lower() in FRAMING:
            raise ValueError(f"the header {name} cannot be set by a webhook")


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
