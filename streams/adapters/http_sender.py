"""Sends one attempt's POST by aiohttp: all of it within one deadline, as the exact bytes that were signed."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from aiohttp import (
    ClientConnectionError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    StreamReader,
)
from yarl import URL

from streams.adapters.guarded_connector import TRAIL, GuardedConnector, Lookup, Trail
from streams.adapters.http_failures import failure_of
from streams.core.address import Network
from streams.core.attempt import ANSWER_KEPT_BYTES
from streams.core.errors import Misconfigured
from streams.core.outcome import Answer, Failure
from streams.core.request import Request
from streams.core.url import url_errors

TIMEOUT_SECONDS = 10.0
CONNECTION_LIFE_SECONDS = 60.0
ANSWER_READ_BYTES = 64 * 1024
MOST_HEADERS = 32
MOST_HEADER_CHARACTERS = 1024


class HttpSender:
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
        self._tls = ssl.create_default_context()
        self._lookup = lookup
        self._monotonic = monotonic
        self._session: ClientSession | None = None

    async def send(self, request: Request) -> Answer | Failure:
        trail = Trail()
        TRAIL.set(trail)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                try:
                    return await self._post(request)
                except ClientConnectionError:
                    if not trail.stale:
                        raise
                trail.fresh_only = True
                return await self._post(request)
        except Exception as error:
            return failure_of(error, trail)

    async def _post(self, request: Request) -> Answer:
        session = self._session or self._open_session()
        response = await session.post(
            _target(request.url), data=request.body, headers=request.headers, allow_redirects=False
        )
        try:
            body = await _start_of(response.content)
        finally:
            if not response.closed:
                response.close()
        return Answer(response.status, _kept_headers(response.headers), body)

    def _open_session(self) -> ClientSession:
        connector = GuardedConnector(
            self._opened, self._tls, self._lookup, CONNECTION_LIFE_SECONDS - self._timeout_seconds, self._monotonic
        )
        self._session = ClientSession(
            connector=connector,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=ANSWER_READ_BYTES // 2,
        )
        return self._session

    async def close(self) -> None:
        if self._session:
            await self._session.close()


@lru_cache(4096)
def _target(url: str) -> URL:
    if errors := url_errors("url", url, allow_http=True):
        raise ValueError(errors[0].message)
    return URL(url, encoded=True)


async def _start_of(content: StreamReader) -> bytes:
    kept = await content.readany()
    if content.at_eof():
        return kept[:ANSWER_KEPT_BYTES]
    read = len(kept)
    while read < ANSWER_READ_BYTES and (chunk := await content.readany()):
        read += len(chunk)
        kept = (kept + chunk)[:ANSWER_KEPT_BYTES]
    return kept[:ANSWER_KEPT_BYTES]


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in headers.items():
        kept.setdefault(name.lower(), value[:MOST_HEADER_CHARACTERS])
    return kept
