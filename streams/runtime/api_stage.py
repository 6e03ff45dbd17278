"""The `api` stage: the admin API on its own port."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from api.app import create_app
from api.documentation.pages import prepare
from api.shell.branding import Branding, Site, origin_of
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.adapters.open_files import limit_connections
from streams.adapters.threads import run_in_worker_thread
from streams.build import build_version
from streams.core.errors import Misconfigured, Unavailable
from streams.ports.runtime import Telemetry
from streams.request_owner import work_for
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.sockets import listen
from streams.setting_values import LOGO_TYPES
from streams.tasks import run_until_first_ends
from streams.telemetry import PrometheusTelemetry

KAFKA_TIMEOUT_SECONDS = 2.0


class ApiProcess:
    """The `api` stage."""

    def __init__(self, deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
        self._topics_admin = deployment.topics_admin()
        self._database = deployment.database
        self._encryption_check = deployment.encryption_check
        self._producer = deployment.producer(telemetry)
        self._telemetry = telemetry
        self._outages = deployment.outages(telemetry)
        self._check: asyncio.Task[list[str]] | None = None
        self._checked_at = 0.0
        settings = deployment.settings
        services = deployment.services(telemetry, self._producer, self._current_problems)
        self._pulls = services.pulls
        connection_count = _limit_connections(settings.api_connections, telemetry)
        app = create_app(
            services,
            build_version(),
            settings.rate_limit,
            make_site(deployment),
            settings.event_rate_limit,
            connection_count,
        )
        prepare(app)
        uvicorn_config = server_config(
            app,
            ConnectionLimits(connections=connection_count),
            ConnectionObserver(
                on_close=lambda reason: telemetry.count("api_connections_closed_total", reason=reason),
                on_count=lambda count: telemetry.gauge("api_connections", count),
            ),
            timeout_graceful_shutdown=int(settings.time_limits.drain_seconds),
        )
        self._socket = listen(
            settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API", is_shared=deployment.shares_api_port
        )
        self._server = GracefulServer(uvicorn_config)
        self._ended_event = asyncio.Event()

    async def run(self) -> None:
        host, port = self._socket.getsockname()[:2]
        self._telemetry.info(
            "api_started", address=f"http://{host}:{port}", documentation=f"http://{host}:{port}/docs/"
        )
        try:
            await run_until_first_ends(
                lambda: self._server.serve(sockets=[self._socket]),
                lambda: self._encryption_check.watch(self._outages),
                # A failed producer would refuse each event; the next process has one that works.
                self._producer.wait_until_failed,
            )
        finally:
            try:
                await self._producer.close()
                await self._database.close()
            finally:
                # The process cancels this task after `drain`.
                self._ended_event.set()

    async def drain(self) -> None:
        self._server.should_exit = True
        self._pulls.end_waits()
        await self._ended_event.wait()
        if self._server.cut_request_count:
            raise TimeoutError(f"requests cut: {self._server.cut_request_count}")

    def readiness_problems(self) -> list[str]:
        return [
            *self._encryption_check.problems(),
            *self._database.readiness_problems(),
            *self._producer.readiness_problems(),
        ]

    async def _current_problems(self) -> list[str]:
        """The missing prerequisites: one check at a time, at most once a second, because this `/readyz` is public."""
        now = asyncio.get_running_loop().time()
        if self._check is None or (self._check.done() and now - self._checked_at >= 1):
            # For all who ask: no request's place at the database.
            with work_for(None):
                self._check = asyncio.create_task(self._check_problems())
        return await asyncio.shield(self._check)

    async def _check_problems(self) -> list[str]:
        try:
            with contextlib.suppress(Unavailable):
                await self._database.ping()
            try:
                await run_in_worker_thread(lambda: self._topics_admin.partition_counts(KAFKA_TIMEOUT_SECONDS))
            except Unavailable as error:
                return [*self._encryption_check.problems(), *self._database.readiness_problems(), str(error)]
            return self.readiness_problems()
        finally:
            self._checked_at = asyncio.get_running_loop().time()


def make_site(deployment: SqlDeployment) -> Site:
    """The dashboard's address and looks, and the facts about the deployment that it shows."""
    settings = deployment.settings
    has_mail_server = bool(deployment.environ.get("SMTP_URL"))
    logo = settings.brand_logo
    branding = Branding(
        name=settings.brand_name,
        logo=_to_data_url(logo) if logo else None,
        accent_color=settings.accent_color,
        frame_ancestors=settings.frame_ancestors,
    )
    origin = origin_of(settings.public_url) if settings.public_url else None
    return Site(
        branding,
        origin,
        signature_header=settings.signature_header,
        retention_days=settings.retention_days,
        trusted_proxies=settings.trusted_proxies,
        attempt_seconds=settings.attempt_timeout_seconds,
        retry_waits=settings.retry_schedule.names,
        allows_http=settings.allow_http,
        sends_mail=has_mail_server if settings.sends_mail is None else settings.sends_mail,
        proxy_resolves=settings.egress_proxy_resolves,
    )


def _to_data_url(logo: Path) -> str:
    try:
        content = base64.b64encode(logo.read_bytes()).decode()
    except OSError as error:
        raise Misconfigured(f"SCORM_WEBHOOKS_BRAND_LOGO: {logo} cannot be read: {error.strerror}") from None
    return f"data:{LOGO_TYPES[logo.suffix.lower()]};base64,{content}"


def _limit_connections(requested_connections: int, telemetry: Telemetry) -> int:
    connection_count = limit_connections(requested_connections)
    if connection_count < requested_connections:
        telemetry.warning(
            "api_connections_reduced",
            wanted=requested_connections,
            connections=connection_count,
            why="the limit of open files (ulimit -n) is too low",
        )
    return connection_count


class GracefulServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process handles signals."""

    # Requests that took longer than the time to shut down.
    cut_request_count = 0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self.cut_request_count = len(self.server_state.tasks)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
