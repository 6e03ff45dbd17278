"""The API on a real database and a Kafka in memory, with people who ask it."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from api.app import create_app
from api.services import Services
from builders import NOON
from fakes import FakeClock, FakeKafka, FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.adapters.sql import migrate
from streams.adapters.sql.account_webhooks import SqlAccountWebhooks
from streams.adapters.sql.accounts import SqlAccounts, SqlApiKeys, SqlUsers
from streams.adapters.sql.audit import SqlAuditLog
from streams.adapters.sql.database import Database, database_url
from streams.adapters.sql.delivery_log import SqlDeliveryLog
from streams.adapters.sql.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.idempotency import SqlIdempotencyStore
from streams.adapters.sql.jobs import SqlJobs
from streams.adapters.sql.mails import SqlMails
from streams.adapters.sql.recorder import SqlRecorder
from streams.adapters.sql.replays import SqlReplays
from streams.adapters.sql.webhook_stats import SqlWebhookStats
from streams.adapters.sql.webhooks import SqlWebhooks
from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.delivery_state import RecordedValue, fold
from streams.core.errors import Unavailable
from streams.services.access import AccessService
from streams.services.accounts import AccountService
from streams.services.deliveries import DeliveryService
from streams.services.ingest import IngestService
from streams.services.recipients import RecipientService
from streams.services.secrets import SecretService
from streams.services.synthetic_events import SyntheticEventService
from streams.services.webhook_stats import WebhookStatsService
from streams.services.webhooks import WebhookService

OPERATOR_KEY = "operator-key-of-the-tests"
OTHER_OPERATOR_KEY = "other-operator-key-of-the-tests"
URL = "https://crm.example.com/hooks"


@dataclass
class FakePublisher:
    """A `PublicationStatus` that has published everything, unless it is told that nobody publishes."""

    works: bool = True

    async def is_published(self, webhook_id: str) -> bool:
        return self.works


@dataclass
class FakeDnsCheck:
    """`DnsCheck`: hosts below `internal.example.com` lead inside."""

    async def problem(self, url: str) -> str | None:
        return "leads to 10.0.0.1, which is not a public address" if ".internal.example.com" in url else None


@dataclass
class ApiClient:
    """Somebody with a key; without one, anybody."""

    client: httpx.AsyncClient
    key: str | None = None
    account_id: str = ""

    async def ask(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {self.key}"} if self.key else {}), **more.pop("headers", {})}
        return await self.client.request(method, path, json=json, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a success."""
        return _json(await self.ask("GET", path, params=params))

    async def post(self, path: str, json: Any = None) -> Any:
        return _json(await self.ask("POST", path, json))

    async def patch(self, path: str, json: Any) -> Any:
        return _json(await self.ask("PATCH", path, json))

    async def delete(self, path: str) -> Any:
        return _json(await self.ask("DELETE", path))

    async def webhook(self, **webhook_input: Any) -> dict[str, Any]:
        """A new webhook."""
        made: dict[str, Any] = await self.post("/v1/webhooks", {"url": URL, **webhook_input})
        return made


def _json(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json() if response.content else None


@dataclass
class ApiFixture:
    """The application, what it stands on, and two accounts with a key each."""

    app: FastAPI
    database: Database
    recorder: SqlRecorder
    client: httpx.AsyncClient
    access: AccessService
    jobs: SqlJobs
    clock: FakeClock
    kafka: FakeKafka
    telemetry: FakeTelemetry
    publisher: FakePublisher
    operator: ApiClient
    readiness_problems: list[str]
    people: dict[str, ApiClient] = field(default_factory=dict)

    @property
    def nobody(self) -> ApiClient:
        return ApiClient(self.client)

    @property
    def acme(self) -> ApiClient:
        return self.people["acme"]

    @property
    def globex(self) -> ApiClient:
        return self.people["globex"]

    async def with_scopes(self, account_id: str, *scopes: str) -> ApiClient:
        """Somebody whose key permits just that."""
        made = await self.access.add_key(account_id, "narrow", scopes, by="test")
        return ApiClient(self.client, made.api_key, account_id)

    @contextlib.contextmanager
    def database_away(self) -> Iterator[None]:
        """The database does not answer for a while."""

        @asynccontextmanager
        async def away(engine: object) -> AsyncIterator[AsyncConnection]:
            raise Unavailable("connection to 10.0.0.5 refused")
            yield

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.database, "_translated", away)
            yield

    async def record(self, *values: Delivery | Attempt | DeadLetter, at: datetime = NOON) -> None:
        """What the stages told of."""
        await self.recorder.record(fold([RecordedValue(value, at) for value in values]))


_FOLDER = tempfile.TemporaryDirectory()


@cache
def _migrated() -> str:
    """An empty SQLite database of this version: to copy it takes a hundredth of the time that it takes to make one."""
    path = f"{_FOLDER.name}/db.sqlite"
    migrate.upgrade(database_url(f"sqlite:///{path}"))
    return path


@asynccontextmanager
async def open_api(
    url: str, *, requests_a_minute: int = 100_000, webhooks_per_account: int = 1000
) -> AsyncIterator[ApiFixture]:
    """The API on this database; what it needs of Kafka is in memory."""
    place = database_url(url)
    if place.get_backend_name() == "sqlite":
        await asyncio.to_thread(shutil.copyfile, _migrated(), str(place.database))
    else:
        await asyncio.to_thread(migrate.upgrade, place)
    database, clock, telemetry = Database(place), FakeClock(), FakeTelemetry()
    numbers = count(1)

    def new_id(prefix: str) -> str:
        return f"{prefix}_{next(numbers):06}"

    kafka, publisher, encryption = FakeKafka(clock), FakePublisher(), FernetEncryption([generate_key()])
    webhooks, accounts, audit = SqlWebhooks(database, clock), SqlAccounts(database), SqlAuditLog(database)
    deliveries, jobs, codec = SqlDeliveryLog(database), SqlJobs(database, clock), AvroCodec()
    account_service = AccountService(accounts, clock, new_id, lambda: f"token-{next(numbers):030}")
    access = AccessService(
        accounts,
        SqlApiKeys(database),
        SqlUsers(database),
        clock,
        new_id,
        lambda: f"token-{next(numbers):030}",
        [f"ada={OPERATOR_KEY}", OTHER_OPERATOR_KEY],
    )
    webhook_service = WebhookService(
        webhooks,
        accounts,
        publisher,
        encryption,
        FakeDnsCheck(),
        clock,
        new_id,
        lambda size: bytes(range(size)),
        webhooks_per_account=webhooks_per_account,
    )
    readiness_problems: list[str] = []

    async def look() -> list[str]:
        return readiness_problems

    services = Services(
        access=access,
        accounts=account_service,
        webhooks=webhook_service,
        secrets=SecretService(
            webhook_service,
            webhooks,
            encryption,
            SqlEncryptionCheck(database, encryption),
            audit,
            clock,
            new_id,
            lambda size: next(numbers).to_bytes(size),
        ),
        deliveries=DeliveryService(deliveries, SqlReplays(database, clock), jobs, clock, new_id),
        webhook_stats=WebhookStatsService(
            webhook_service, SqlWebhookStats(database), SqlMails(database, new_id), clock, "https://hooks.example.com"
        ),
        synthetic_events=SyntheticEventService(webhooks, deliveries, kafka, codec, clock, new_id),
        ingest=IngestService(kafka, codec, RecipientService(SqlAccountWebhooks(database)), new_id),
        audit=audit,
        responses=SqlIdempotencyStore(database),
        encryption=encryption,
        clock=clock,
        telemetry=telemetry,
        readiness_problems=look,
        metrics=lambda: (b"numbers\n", "text/plain"),
    )
    app = create_app(services, "1.2.3", requests_a_minute)
    recorder = SqlRecorder(database, clock, telemetry, new_id)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hooks.example.com") as client:
        operator = ApiClient(client, OPERATOR_KEY)
        api = ApiFixture(
            app,
            database,
            recorder,
            client,
            access,
            jobs,
            clock,
            kafka,
            telemetry,
            publisher,
            operator,
            readiness_problems,
        )
        for name in ("acme", "globex"):
            opened = await account_service.open(name, [f"ops@{name}.example"], by="test")
            api.people[name] = ApiClient(client, opened.api_key, opened.account.id)
        yield api
    await database.close()


def errors_of(response: httpx.Response) -> dict[str, str]:
    """The fields that a problem names."""
    assert response.headers["content-type"] == "application/problem+json"
    found: list[Mapping[str, str]] = response.json()["errors"]
    return {error["field"]: error["message"] for error in found}
