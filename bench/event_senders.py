"""Ways to publish: Kafka with `EventProducer`, or REST with a request for each event."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import aiohttp
import uvloop

from streams.producer import EventProducer

# One API process takes 500 connections by default.
CONNECTIONS = 256
_ANSWER_SECONDS = 60

_T = TypeVar("_T")


class EventSender(Protocol):
    """Sends events without blocking."""

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event and return at once."""
        ...

    def finish(self) -> int:
        """Wait for the response to every event since the last call; return how many were not accepted."""
        ...


class KafkaSender:
    """Publishes to `session-events`; the broker acknowledges each event."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = EventProducer(bootstrap)
        self._futures: list[Future[Any]] = []

    def send(self, event: dict[str, Any]) -> None:
        self._futures.append(self._producer.publish(event))

    def finish(self) -> int:
        futures, self._futures = self._futures, []
        return sum(future.exception() is not None for future in futures)

    def close(self) -> None:
        self._producer.close()


class RestSender:
    """Sends each event as its own `POST /v1/events`, over up to `CONNECTIONS` open connections.

    A thread makes the requests, so that a slow response does not change the pace of `send`.
    """

    def __init__(self, api_url: str, key: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session = self._run(self._open(api_url, key))
        self._futures: list[Future[bool]] = []

    def send(self, event: dict[str, Any]) -> None:
        self._futures.append(asyncio.run_coroutine_threadsafe(self._post(event), self._loop))

    def finish(self) -> int:
        futures, self._futures = self._futures, []
        return sum(not future.result() for future in futures)

    def close(self) -> None:
        self._run(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self, api_url: str, key: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            api_url,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=_ANSWER_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _post(self, event: dict[str, Any]) -> bool:
        """Whether the API accepted the event."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post("/v1/events", json=event) as response:
                await response.read()
                return response.status == 202
        return False

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
