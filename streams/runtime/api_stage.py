"""The `api` process: the admin API on its port, beside the health port that every stage has."""

import asyncio
import contextlib
from collections.abc import Iterator
from importlib.metadata import version

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.app import create_app
from api.services import Services
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.adapters.open_files import connections_that_fit
from streams.adapters.sql.idempotency import SqlIdempotencyStore
from streams.adapters.threads import in_worker_thread
from streams.core.errors import Unavailable
from streams.ports import Telemetry
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.sockets import listen
from streams.runtime.startup_checks import together
from streams.stages.consuming.partition_consumer import DRAIN_SECONDS
from streams.telemetry import PrometheusTelemetry

KAFKA_SECONDS = 2.0


class ApiProcess:
    """`api`."""

    def __init__(self, deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
        self._admin = deployment.topics_admin()
        self._database = deployment.database
        self._keys = deployment.encryption_check
        self._producer = deployment.producer(telemetry)
        self._telemetry = telemetry
        self._looked: tuple[float, list[str]] | None = None
        settings = deployment.settings
        services = Services(
            access=deployment.access(),
            accounts=deployment.accounts(),
            webhooks=deployment.webhooks(),
            secrets=deployment.secrets(),
            deliveries=deployment.deliveries(),
            webhook_stats=deployment.webhook_stats(),
            synthetic_events=deployment.synthetic_events(self._producer),
            ingest=deployment.ingest(self._producer),
            audit=deployment.audit(),
            responses=SqlIdempotencyStore(self._database),
            encryption=deployment.encryption,
            clock=deployment.clock,
            telemetry=telemetry,
            readiness_problems=self._problems_now,
            metrics=lambda: (generate_latest(telemetry.registry), CONTENT_TYPE_LATEST),
        )
        config = server_config(
            create_app(services, version("scorm-webhooks"), settings.rate_limit),
            ConnectionLimits(connections=_connections(settings.api_connections, telemetry)),
            ConnectionObserver(
                closed=lambda reason: telemetry.count("api_connections_closed_total", reason=reason),
                counted=lambda count: telemetry.gauge("api_connections", count),
            ),
            timeout_graceful_shutdown=int(DRAIN_SECONDS),
        )
        self._socket = listen(settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API")
        self._server = _Server(config)
        self._ended = asyncio.Event()

    async def run(self) -> None:
        host, port = self._socket.getsockname()[:2]
        self._telemetry.info("api", address=f"http://{host}:{port}", documentation=f"http://{host}:{port}/docs")
        try:
            await together(lambda: self._server.serve(sockets=[self._socket]), self._keys.watch)
        finally:
            try:
                await self._producer.close()
                await self._database.close()
            finally:
                # Whoever drains cancels what still runs then.
                self._ended.set()

    async def drain(self) -> None:
        self._server.should_exit = True
        await self._ended.wait()

    def readiness_problems(self) -> list[str]:
        return [*self._keys.problems(), *self._database.readiness_problems(), *self._producer.readiness_problems()]

    async def _problems_now(self) -> list[str]:
        """What is missing, asked at most once a second, however often strangers want to know."""
        now = asyncio.get_running_loop().time()
        if self._looked is None or now - self._looked[0] >= 1:
            self._looked = now, await self._look()
        return self._looked[1]

    async def _look(self) -> list[str]:
        with contextlib.suppress(Unavailable):
            await self._database.ping()
        try:
            await in_worker_thread(lambda: self._admin.existing(KAFKA_SECONDS))
        except Unavailable as away:
            return [*self._keys.problems(), *self._database.readiness_problems(), str(away)]
        return self.readiness_problems()


def _connections(wanted: int, telemetry: Telemetry) -> int:
    count = connections_that_fit(wanted)
    if count < wanted:
        telemetry.info("api_connections_reduced", wanted=wanted, connections=count, why="the limit of open files")
    return count


class _Server(uvicorn.Server):
    """Signals are the process's own matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
