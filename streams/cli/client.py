"""A client of the API: by HTTP, or onto the API's routes in this process where a system's settings are."""

import asyncio
import getpass
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from streams.cli.deployment import import_without_gc, open_deployment, require_kafka
from streams.cli.problems import KEY_VARIABLE, URL_VARIABLE, result_of, retry_seconds
from streams.core.errors import FieldError, Invalid, Misconfigured, Unavailable
from streams.core.ids import ID_WORDS, is_id
from streams.core.page import MAX_PAGE_ROWS

if TYPE_CHECKING:
    from datetime import datetime

    import httpx2

    from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
    from streams.ports.kafka import Outgoing
    from streams.runtime.bootstrap import SqlDeployment

_JSON = {"Content-Type": "application/json"}
KAFKA_TIMEOUT_SECONDS = 5.0
# Longer than the longest response: that of a test event.
TIMEOUT_SECONDS = 60.0
# A command waits this long for its turn while the API responds with 429.
MAX_PATIENCE_SECONDS = 60.0


def current_actor() -> str:
    """The actor for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # A container may run with a user id that has no name.
        return f"cli:uid-{os.getuid()}"


def is_remote() -> bool:
    """Whether commands use an API by HTTP."""
    return bool(os.environ.get(URL_VARIABLE))


class Api:
    """Sends requests; returns the JSON of the responses.

    A path has its parts below `/v1`, such as `"webhooks", webhook_id`. Raises the exceptions of `streams.core.errors`.
    """

    def __init__(self, runner: asyncio.Runner, client: "httpx2.AsyncClient") -> None:
        self._runner = runner
        self._client = client

    def get(self, *path: str, **query: object) -> Any:
        return self._request("GET", path, query)

    def post(self, *path: str, body: Mapping[str, Any] | None = None, **query: object) -> Any:
        return self._request("POST", path, query, body)

    def patch(self, *path: str, body: Mapping[str, Any]) -> Any:
        return self._request("PATCH", path, body=body)

    def delete(self, *path: str) -> None:
        self._request("DELETE", path)

    def rows(self, *path: str, limit: int | None = None, **query: object) -> list[dict[str, Any]]:
        """The rows of a list, page by page; with `limit` only the first ones."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page_rows = MAX_PAGE_ROWS if limit is None else min(limit - len(rows), MAX_PAGE_ROWS)
            page = self.get(*path, limit=page_rows, cursor=cursor, **query)
            rows += page["data"]
            cursor = page.get("nextCursor")
            if cursor is None or len(rows) == limit:
                return rows

    def require_account(self, account: str | None) -> None:
        """Raise `Invalid` if this is not the account of the key."""
        if account is not None and self.get("account")["id"] != account:
            raise Invalid(FieldError("account", f"must be the account of {KEY_VARIABLE}, or left out"))

    def _request(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        params = {name: _unicode(name, str(value)) for name, value in (query or {}).items() if value is not None}
        return self._runner.run(self._send(method, f"/v1/{'/'.join(map(_path_part, path))}", params, body))

    async def _send(self, method: str, path: str, params: dict[str, str], body: Mapping[str, Any] | None) -> Any:
        import httpx2

        # The standard library also encodes half of a surrogate pair; the API says what is wrong with it.
        content = None if body is None else json.dumps(body)
        deadline = time.monotonic() + MAX_PATIENCE_SECONDS
        while True:
            try:
                response = await self._client.request(method, path, params=params, content=content, headers=_JSON)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                reason = str(error) or type(error).__name__
                raise Unavailable(f"{URL_VARIABLE}: {self._client.base_url} does not answer: {reason}") from None
            seconds = retry_seconds(response)
            if seconds is None or time.monotonic() + seconds > deadline:
                return result_of(response)
            await asyncio.sleep(seconds)


def _unicode(name: str, text: str) -> str:
    """Raises `Invalid` for a text that was typed in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(FieldError(name, "must be valid Unicode")) from None
    return text


def _path_part(text: str) -> str:
    """Raises `Invalid` for a text that is neither an id nor a name: it could lead to another resource."""
    if not is_id(text):
        raise Invalid(FieldError(text, f"is not an id: {ID_WORDS}"))
    return quote(text, safe="")


@contextmanager
def open_api(account: str | None = None) -> Iterator[Api]:
    """The API for one command: with SCORM_WEBHOOKS_API_URL by HTTP, else in this process, as an operator.

    `account` limits it to one account. Raises `Misconfigured` without a URL or a system, and `Invalid` for an account
    that is not the key's.
    """
    context = _remote_client() if is_remote() else _local_client(account)
    with asyncio.Runner() as runner, _entered(runner, context) as client:
        api = Api(runner, client)
        if is_remote():
            api.require_account(account)
        yield api


@contextmanager
def _entered(
    runner: asyncio.Runner, context: AbstractAsyncContextManager["httpx2.AsyncClient"]
) -> Iterator["httpx2.AsyncClient"]:
    client = runner.run(context.__aenter__())
    try:
        yield client
    except BaseException as error:
        # It raises a better one, or lets this one go on.
        runner.run(context.__aexit__(type(error), error, error.__traceback__))
        raise
    runner.run(context.__aexit__(None, None, None))


@asynccontextmanager
async def _remote_client() -> AsyncIterator["httpx2.AsyncClient"]:
    import httpx2

    url, key = os.environ[URL_VARIABLE], os.environ.get(KEY_VARIABLE)
    if not url.startswith(("https://", "http://")):
        raise Misconfigured(f"{URL_VARIABLE}: must be a URL such as https://webhooks.example.com")
    if not key or not key.isascii() or not key.isprintable():
        raise Misconfigured(f"{KEY_VARIABLE}: must be an API key (sk_…) for {URL_VARIABLE}")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS) as client:
        yield client


@asynccontextmanager
async def _local_client(account: str | None) -> AsyncIterator["httpx2.AsyncClient"]:
    async with open_deployment() as deployment, _producer_on_use(deployment) as producer:
        with import_without_gc():
            import httpx2

            from api.local import LocalApp
            from streams.core.accounts.access import ALL_SCOPES, OPERATOR, Caller
            from streams.telemetry import PrometheusTelemetry

            caller = Caller(current_actor(), ALL_SCOPES | {OPERATOR}, account, is_local=True)
            services = deployment.services(PrometheusTelemetry("cli"), producer, _no_problems, lambda: (b"", ""))
            transport = httpx2.ASGITransport(LocalApp(services, caller))
        async with httpx2.AsyncClient(base_url="http://local", transport=transport, timeout=None) as client:
            yield client


async def _no_problems() -> list[str]:
    return []


class _ProducerOnUse:
    """A producer that connects when it is used first."""

    def __init__(self, deployment: "SqlDeployment") -> None:
        self._deployment = deployment
        self.producer: KafkaRecordProducer | None = None

    async def produce(self, records: "Sequence[Outgoing]") -> "Sequence[datetime]":
        if self.producer is None:
            from streams.telemetry import PrometheusTelemetry

            # Before the service gives up, which does not know why.
            await asyncio.to_thread(require_kafka, self._deployment, KAFKA_TIMEOUT_SECONDS)
            self.producer = self._deployment.producer(PrometheusTelemetry("cli"))
        return await self.producer.produce(records)


@asynccontextmanager
async def _producer_on_use(deployment: "SqlDeployment") -> AsyncIterator[_ProducerOnUse]:
    producer = _ProducerOnUse(deployment)
    try:
        yield producer
    finally:
        if producer.producer is not None:
            await producer.producer.close()
