"""The API on a real database and a Kafka in memory, with clients."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import count
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.routing import BaseRoute

from api.app import create_app
from builders import NOON
from fakes import FakeClock, FakeEventHistory, FakeKafka, FakeTelemetry
from real.migrated import make_tables
from streams.adapters.encryption import generate_key
from streams.adapters.sql.deliveries.jobs import SqlJobs
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.engine.database import Database, database_url
from streams.adapters.sql.tables.accounts import mails
from streams.core.accounts.access import ACCOUNT_HEADER
from streams.core.accounts.mail import MailKind
from streams.core.accounts.session import format_code
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.job import Job
from streams.core.errors import Unavailable
from streams.features.accounts.access import AccessService
from streams.features.replays.backfill import HistoryBackfill
from streams.features.sign_in.service import SignInService
from streams.features.sign_in.sessions import SessionService
from streams.outage import Outages
from streams.ports.access import IdentityProvider
from streams.ports.delivery import DnsCheck, DnsResult
from streams.ports.kafka import EventHistory, GroupLags, Partition
from streams.ports.storage import ErasurePublication
from streams.ports.webhooks import PublicationStatus
from streams.runtime.api_stage import make_site
from streams.runtime.bootstrap import SqlDeployment

OPERATOR_KEY = "operator-key-of-the-tests"
OTHER_OPERATOR_KEY = "other-operator-key-of-the-tests"
URL = "https://crm.example.com/hooks"
PUBLIC_URL = "https://hooks.example.com"
# Of the first application.
_ROUTES: list[BaseRoute] = []


@dataclass
class FakePublisher:
    """A `PublicationStatus`: all is published, unless `works` is false."""

    works: bool = True
    propagation_seconds: float = 0

    async def is_published(self, webhook_id: str) -> bool:
        return self.works


@dataclass
class FakeErasureStatus:
    """An `ErasurePublication` of the same publisher."""

    publisher: FakePublisher

    async def is_published(self, account_id: str, learner_hash: str) -> bool:
        return self.publisher.works


class FakeGroupLags:
    """`GroupLags`: `deliver` is 12 records behind."""

    async def offsets(self) -> dict[str, dict[Partition, GroupOffsets]]:
        return {
            "deliver": {
                Partition("deliveries", 0): GroupOffsets(committed=30, end=42),
                Partition("deliveries.test", 0): GroupOffsets(committed=7, end=7),
            }
        }


@dataclass
class FakeDnsCheck:
    """`DnsCheck`: hosts below `internal.example.com` have a private address, those below `unknown.example.com` none."""

    async def check(self, url: str, account_id: str) -> DnsResult:
        if ".internal.example.com" in url:
            return DnsResult("leads to 10.0.0.1, which is not a public address")
        return DnsResult(resolves=".unknown.example.com" not in url)


@dataclass
class ApiClient:
    """An HTTP client, with or without an API key. An operator's may act for an account."""

    client: httpx.AsyncClient
    key: str | None = None
    account_id: str = ""
    acts_for: str | None = None

    async def request(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        headers = {
            **({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            **({} if self.acts_for is None else {ACCOUNT_HEADER: self.acts_for}),
            **more.pop("headers", {}),
        }
        return await self.client.request(method, path, json=json, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a successful response."""
        return _json(await self.request("GET", path, params=params))

    async def post(self, path: str, json: Any = None) -> Any:
        return _json(await self.request("POST", path, json))

    async def patch(self, path: str, json: Any) -> Any:
        return _json(await self.request("PATCH", path, json))

    async def delete(self, path: str) -> Any:
        return _json(await self.request("DELETE", path))

    async def webhook(self, **webhook_input: Any) -> dict[str, Any]:
        """Register a webhook."""
        made: dict[str, Any] = await self.post("/v1/webhooks", {"url": URL, **webhook_input})
        return made


def _json(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json() if response.content else None


@dataclass
class ApiFixture:
    """The application, its dependencies, and two accounts with a key each."""

    app: FastAPI
    database: Database
    recorder: SqlRecorder
    client: httpx.AsyncClient
    access: AccessService
    sign_in: SignInService
    sessions: SessionService
    jobs: SqlJobs
    backfill: HistoryBackfill
    history: FakeEventHistory
    clock: FakeClock
    kafka: FakeKafka
    telemetry: FakeTelemetry
    publisher: FakePublisher
    operator: ApiClient
    readiness_problems: list[str]
    clients: dict[str, ApiClient] = field(default_factory=dict)

    @property
    def anonymous(self) -> ApiClient:
        return ApiClient(self.client)

    @property
    def acme(self) -> ApiClient:
        return self.clients["acme"]

    def operator_for(self, account_id: str) -> ApiClient:
        return replace(self.operator, acts_for=account_id)

    @property
    def globex(self) -> ApiClient:
        return self.clients["globex"]

    async def with_scopes(self, account_id: str, *scopes: str) -> ApiClient:
        """A client whose key has exactly these scopes."""
        made = await self.access.add_key(account_id, "narrow", scopes, actor="test")
        return ApiClient(self.client, made.api_key, account_id)

    @contextlib.contextmanager
    def database_away(self) -> Iterator[None]:
        """Make the database unreachable."""

        @asynccontextmanager
        async def away(engine: object) -> AsyncIterator[AsyncConnection]:
            raise Unavailable("connection to 10.0.0.5 refused")
            yield

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.database, "_open_transaction", away)
            yield

    async def sign_in_mails(self) -> list[tuple[str, str, str]]:
        """The address, the token and the code of each mail that is due, oldest first."""
        due = (mails.c.kind == MailKind.SIGN_IN) & mails.c.due_at.is_not(None)
        async with self.database.read_transaction() as connection:
            query = select(mails.c.details).where(due).order_by(mails.c.created_at, mails.c.id)
            details = (await connection.scalars(query)).all()
        decrypt = self.app.state.services.encryption.decrypt
        secrets = [json.loads(decrypt(one["ciphertext"])) for one in details]
        return [(one["email"], secret["token"], secret["code"]) for one, secret in zip(details, secrets, strict=True)]

    async def finish(self, job_id: str) -> Job:
        """Do a job to its end, as `publish` does, a portion a second."""
        job = await self.jobs.find(job_id)
        assert job is not None
        while job.finished_at is None:
            job = await (
                self.backfill.do_next_portion(job) if job.is_backfilling else self.jobs.do_next_portion(job.id)
            )
            self.clock.advance(1)
        return job

    async def record(self, *values: Delivery | Attempt | DeadLetter, at: datetime = NOON) -> None:
        """Store records, as the stage `record` does."""
        await self.recorder.record(merge_records([RecordedValue(value, at) for value in values]))


@dataclass(frozen=True)
class ApiDeployment(SqlDeployment):
    """A deployment on SQL. Time, ids, DNS and publication are fakes."""

    clock: FakeClock = field(default_factory=FakeClock)
    publisher: FakePublisher = field(default_factory=FakePublisher)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    provider: IdentityProvider | None = None

    @cached_property
    def kafka_in_memory(self) -> FakeKafka:
        return FakeKafka(self.clock)

    @cached_property
    def history(self) -> FakeEventHistory:
        return FakeEventHistory(self.kafka_in_memory)

    def event_history(self) -> EventHistory:
        return self.history

    def monotonic(self) -> float:
        return self.clock.now().timestamp()

    def new_token(self) -> str:
        return f"token-{next(self.numbers):037}"

    def new_code(self) -> str:
        return format_code(next(self.numbers))

    def random_bytes(self, size: int) -> bytes:
        return next(self.numbers).to_bytes(size)

    def dns_check(self) -> DnsCheck:
        return FakeDnsCheck()

    def identity_provider(self) -> IdentityProvider | None:
        return self.provider or super().identity_provider()

    def publication_status(self) -> PublicationStatus:
        return self.publisher

    def erasure_status(self) -> ErasurePublication:
        return FakeErasureStatus(self.publisher)

    def group_lags(self) -> GroupLags:
        return FakeGroupLags()


@asynccontextmanager
async def open_api(
    url: str,
    *,
    requests_a_minute: int = 100_000,
    max_events_per_second: int = 100_000,
    webhooks_per_account: int = 1000,
    settings: Mapping[str, str] = MappingProxyType({}),
    provider: IdentityProvider | None = None,
    now: datetime = NOON,
) -> AsyncIterator[ApiFixture]:
    """Run the API on this database; its Kafka is in memory. `settings` are further variables."""
    await asyncio.to_thread(make_tables, database_url(url))
    deployment = ApiDeployment.from_environment(
        {
            "DATABASE_URL": url,
            "SCORM_WEBHOOKS_ENCRYPTION_KEYS": generate_key(),
            "SCORM_WEBHOOKS_OPERATOR_KEYS": f"ada={OPERATOR_KEY},{OTHER_OPERATOR_KEY}",
            "SCORM_WEBHOOKS_PUBLIC_URL": PUBLIC_URL,
            "SMTP_URL": "smtp://127.0.0.1:25?tls=none",
            "SCORM_WEBHOOKS_WEBHOOKS_PER_ACCOUNT": str(webhooks_per_account),
            **settings,
        }
    )
    deployment = replace(deployment, clock=FakeClock(now), provider=provider)
    kafka, telemetry, problems = deployment.kafka_in_memory, FakeTelemetry(), list[str]()

    async def readiness_problems() -> list[str]:
        return problems

    services = deployment.services(telemetry, kafka, readiness_problems)
    app = create_app(services, "1.2.3", requests_a_minute, make_site(deployment), max_events_per_second)
    # Routes find the services of the request. What FastAPI prepares of each takes longer than most tests.
    _ROUTES.extend(app.router.routes if not _ROUTES else ())
    app.router.routes[:] = _ROUTES
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL) as client:
        api = ApiFixture(
            app=app,
            database=deployment.database,
            recorder=deployment.recorder(telemetry),
            client=client,
            access=services.access,
            sign_in=services.sign_in,
            sessions=services.sessions,
            jobs=deployment.jobs(),
            backfill=HistoryBackfill(
                deployment.jobs(),
                deployment.stored_webhooks(),
                deployment.history,
                deployment.codec,
                deployment.clock,
                Outages(telemetry),
            ),
            history=deployment.history,
            clock=deployment.clock,
            kafka=kafka,
            telemetry=telemetry,
            publisher=deployment.publisher,
            operator=ApiClient(client, OPERATOR_KEY),
            readiness_problems=problems,
        )
        for name in ("acme", "globex"):
            opened = await services.accounts.open(name, [f"ops@{name}.example"], actor="test")
            api.clients[name] = ApiClient(client, opened.api_key, opened.account.id)
        yield api
    await deployment.database.close()


def errors_of(response: httpx.Response) -> dict[str, str]:
    """The errors of a problem response, by field."""
    assert response.headers["content-type"] == "application/problem+json"
    found: list[Mapping[str, str]] = response.json()["errors"]
    return {error["field"]: error["message"] for error in found}
