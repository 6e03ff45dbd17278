"""The `api` stage: the admin API on its own port."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from api.app import create_app
from api.documentation.pages import prepare
from api.services import Services
from api.shell.branding import Branding, Site, origin_of
from scorm_webhooks_cli.local_key import make_local_key, remove_local_key, write_local_key
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.adapters.open_files import limit_connections
from streams.adapters.threads import run_in_worker_thread
from streams.build import build_version
from streams.core.errors import Misconfigured, Unavailable
from streams.ports.runtime import Telemetry
from streams.request_owner import work_for
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.running_stage import Stage
from streams.runtime.sockets import listen
from streams.setting_values import LOGO_TYPES
from streams.telemetry import PrometheusTelemetry

KAFKA_TIMEOUT_SECONDS = 2.0


def api(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> Stage:
    """The stage `api`. A drain accepts no more connections, and ends the requests in progress."""
    settings, database, producer = deployment.settings, deployment.database, deployment.producer(telemetry)
    readiness = PublicReadiness(deployment, producer)
    services = deployment.services(telemetry, producer, readiness.problems)
    server, ended_event = _make_server(deployment, services, telemetry), asyncio.Event()
    listening = listen(settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API", is_shared=deployment.shares_api_port)

    async def serve() -> None:
        host, port = listening.getsockname()[:2]
        telemetry.info("api_started", address=f"http://{host}:{port}", documentation=f"http://{host}:{port}/docs/")
        with _local_key(deployment.local_key_path, url_on_this_machine(host, port), telemetry):
            await server.serve(sockets=[listening])

    async def drain() -> None:
        server.should_exit = True
        services.pulls.end_waits()
        await ended_event.wait()
        if server.cut_request_count:
            raise TimeoutError(f"requests cut: {server.cut_request_count}")

    async def end() -> None:
        # The process cancels the tasks after `drain`.
        ended_event.set()

    return Stage(
        tasks=[
            serve,
            lambda: deployment.encryption_check.watch(deployment.outages(telemetry)),
            # A failed producer would refuse each event; the next process has one that works.
            producer.wait_until_failed,
        ],
        closes=[producer.close, database.close, end],
        problems=[readiness.known_problems],
        drain=drain,
    )


def _make_server(deployment: SqlDeployment, services: Services, telemetry: PrometheusTelemetry) -> "GracefulServer":
    settings = deployment.settings
    connection_count = _limit_connections(settings.api_connections, telemetry)
    site = make_site(deployment)
    app = create_app(services, build_version(), settings.rate_limit, site, settings.event_rate_limit, connection_count)
    prepare(app)
    observer = ConnectionObserver(
        on_close=lambda reason: telemetry.count("api_connections_closed_total", reason=reason),
        on_count=lambda count: telemetry.gauge("api_connections", count),
    )
    drain_seconds = int(settings.time_limits.drain_seconds)
    limits = ConnectionLimits(connections=connection_count)
    return GracefulServer(server_config(app, limits, observer, timeout_graceful_shutdown=drain_seconds))


@contextlib.contextmanager
def _local_key(path: Path, url: str, telemetry: Telemetry) -> Iterator[None]:
    """Let commands on this machine use the API meanwhile."""
    local_key = make_local_key(url)
    try:
        write_local_key(path, local_key)
    except OSError as error:
        effect = "commands on this machine need a key of their own"
        telemetry.warning("local_key_not_written", why=f"{path}: {error.strerror}", effect=effect)
    try:
        yield
    finally:
        remove_local_key(path, local_key)


class PublicReadiness:
    """The missing prerequisites: one check at a time, at most once a second, because this `/readyz` is public."""

    def __init__(self, deployment: SqlDeployment, producer: KafkaRecordProducer) -> None:
        self._topics_admin, self._database = deployment.topics_admin(), deployment.database
        self._encryption_check, self._producer = deployment.encryption_check, producer
        self._check: asyncio.Task[list[str]] | None = None
        self._checked_at = 0.0

    async def problems(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        if self._check is None or (self._check.done() and now - self._checked_at >= 1):
            # All callers share the check, so it takes no request's place at the database.
            with work_for(None):
                self._check = asyncio.create_task(self._check_all())
        return await asyncio.shield(self._check)

    async def _check_all(self) -> list[str]:
        try:
            with contextlib.suppress(Unavailable):
                await self._database.ping()
            try:
                await run_in_worker_thread(lambda: self._topics_admin.partition_counts(KAFKA_TIMEOUT_SECONDS))
            except Unavailable as error:
                return [*self._encryption_check.problems(), *self._database.readiness_problems(), str(error)]
            return self.known_problems()
        finally:
            self._checked_at = asyncio.get_running_loop().time()

    def known_problems(self) -> list[str]:
        """The problems that need no new check."""
        return [
            *self._encryption_check.problems(),
            *self._database.readiness_problems(),
            *self._producer.readiness_problems(),
        ]


def url_on_this_machine(host: str, port: int) -> str:
    """The URL of a socket's address; one that listens on every address answers on loopback."""
    address = ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{host}:{port}" if address.version == 4 else f"http://[{host}]:{port}"


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
