"""Run every stage on one machine (`up`), by default with an embedded broker and SQLite."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.sql.engine.migrate import upgrade
from streams.adapters.sql.engine.pooler import store_session_settings
from streams.adapters.sql.webhooks.outbox import LEASE_SECONDS, SqlLease
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.errors import Misconfigured
from streams.runtime.background import BACKGROUND_NAME, SEPARATE_STAGE_REASONS
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.child_metrics import child_metrics
from streams.runtime.health_server import serve_health
from streams.runtime.sockets import listen
from streams.runtime.start_lines import print_addresses, print_start, wait_until_up
from streams.runtime.startup import STAGES
from streams.runtime.supervisor import Supervisor
from streams.settings import PREFIX, Settings
from streams.tasks import stop_signal
from streams.telemetry import PrometheusTelemetry

EMBEDDED_WARNING = (
    "for trying only: it keeps records in this process's memory (5 MB a partition) and loses them when it ends; "
    "set KAFKA_BOOTSTRAP_SERVERS for a real one"
)


@asynccontextmanager
async def run_system(
    deployment: SqlDeployment, telemetry: PrometheusTelemetry, log_dir: Path | None = None, *, is_small: bool = False
) -> AsyncIterator[Supervisor]:
    """Run all stages of a deployment during the block, some of them in one process if it is `is_small`.

    The embedded broker's address is written to the data directory.
    """
    deployment.make_data_dir()
    with _start_broker(deployment, telemetry) as environ:
        upgrade(deployment.database_url)
        if deployment.settings.is_behind_pooler:
            store_session_settings(deployment.database_url)
        if _is_embedded(deployment):
            await _end_lost_deliveries(deployment, telemetry)
        options = ("--sole-member",) if _is_embedded(deployment) else ()
        stages = [*SEPARATE_STAGE_REASONS, BACKGROUND_NAME] if is_small else list(STAGES)
        supervisor = Supervisor(
            stages, environ, telemetry, deployment.settings.time_limits.kill_seconds, log_dir, options
        )
        supervisor_task = asyncio.create_task(supervisor.run())
        try:
            # Let the supervisor start its children first.
            await asyncio.sleep(0)
            yield supervisor
        finally:
            # If the supervisor ended by itself, it has an exception to raise.
            if supervisor.is_running:
                supervisor_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor_task
            if _is_embedded(deployment):
                await _warn_of_lost_deliveries(deployment, telemetry)


def _is_embedded(deployment: SqlDeployment) -> bool:
    return not deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS")


async def _end_lost_deliveries(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
    """End deliveries that wait in SQL: the last broker had them, and the new one is still empty."""
    lease = deployment.lease("publish")
    # Another deployment may use the same database server. Only one `up` at a time uses a data directory.
    if not deployment.database.is_sqlite and not await _take_lease(lease):
        telemetry.warning("database_in_use", effect="deliveries of the other deployment are left as they are")
        return
    if ended_count := await deployment.lost_deliveries().end_all():
        telemetry.count("dead_letters_total", ended_count, reason=str(DeathReason.BROKER_RESTARTED))
        telemetry.warning(
            "deliveries_lost_with_broker",
            deliveries=ended_count,
            effect="they are dead letters now",
            retry="scorm-webhooks dead-letters retry --all --reason broker_restarted",
        )
    await lease.release()


async def _take_lease(lease: SqlLease) -> bool:
    """Take a lease. A killed publisher may hold it for a few more seconds."""
    for _ in range(int(LEASE_SECONDS) + 2):
        if await lease.renew():
            return True
        await asyncio.sleep(1)
    return False


async def _warn_of_lost_deliveries(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
    state_counts = (
        state_count for counts in (await deployment.deliveries().count_states()).values() for state_count in counts
    )
    if waiting_count := sum(state_count.count for state_count in state_counts if state_count.state is State.WAITING):
        telemetry.warning(
            "deliveries_end_with_broker", deliveries=waiting_count, effect="they become dead letters at the next start"
        )


async def serve_up(deployment: SqlDeployment, *, is_small: bool) -> None:
    """Run `up` until SIGTERM or SIGINT. Raises `Misconfigured` if a stage cannot start."""
    telemetry = PrometheusTelemetry("up")
    stop_event = stop_signal()
    with _lock_data_dir(deployment.make_data_dir()):
        await _serve(deployment, telemetry, stop_event, is_small)


async def _serve(
    deployment: SqlDeployment, telemetry: PrometheusTelemetry, stop_event: asyncio.Event, is_small: bool
) -> None:
    settings = deployment.settings
    health_socket = listen(settings.health_host, settings.health_port, f"{PREFIX}HEALTH")
    started_supervisors: list[Supervisor] = []

    async def readiness_problems() -> list[str]:
        return await started_supervisors[0].readiness_problems() if started_supervisors else ["is starting"]

    async def metrics() -> tuple[bytes, str]:
        if not started_supervisors:
            return generate_latest(telemetry.registry), CONTENT_TYPE_LATEST
        return await child_metrics(started_supervisors[0], "stage", {"up": telemetry.registry})

    try:
        async with (
            serve_health(health_socket, readiness_problems, metrics, settings.notes) as port,
            run_system(deployment, telemetry, is_small=is_small) as supervisor,
        ):
            started_supervisors.append(supervisor)
            health_url = f"http://{settings.health_host}:{port}/readyz"
            telemetry.info("started", health=health_url, data_dir=str(settings.data_dir))
            print_start(settings)
            if await wait_until_up(supervisor, stop_event, health_url):
                await print_addresses(deployment, is_embedded=_is_embedded(deployment))
            await _wait_for_end(stop_event, supervisor)
            telemetry.info("stopping")
    finally:
        await deployment.database.close()


async def _wait_for_end(stop_event: asyncio.Event, supervisor: Supervisor) -> None:
    while not stop_event.is_set() and supervisor.is_running:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop_event.wait(), 0.5)


@contextmanager
def _start_broker(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> Iterator[dict[str, str]]:
    """Start the embedded broker if it is used. Yields the environment variables of the stages, with its address."""
    environ = dict(deployment.environ)
    if not _is_embedded(deployment):
        yield environ
        return
    settings = deployment.settings
    telemetry.info("embedded_broker_started", effect=EMBEDDED_WARNING)
    with EmbeddedBroker(deployment.topics, settings.topic_prefix) as broker:
        try:
            settings.broker_file.write_text(json.dumps({"bootstrap": broker.bootstrap, "pid": os.getpid()}))
        except OSError as error:
            raise Misconfigured(f"SCORM_WEBHOOKS_DATA_DIR: {settings.broker_file}: {error.strerror}") from None
        try:
            yield {
                **_SHORT_FETCH_CONFIG,
                **environ,
                "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
                **_embedded_settings(settings),
            }
        finally:
            settings.broker_file.unlink(missing_ok=True)


# The embedded broker answers a fetch only after its whole wait, even when a record arrives.
_SHORT_FETCH_CONFIG = {"KAFKA_CONFIG_FETCH_WAIT_MAX_MS": "20"}


def _embedded_settings(settings: Settings) -> dict[str, str]:
    # Without these, stages with a broker's address take the defaults of a cluster.
    return {
        f"{PREFIX}EVENT_PARTITIONS": str(settings.event_partitions),
        f"{PREFIX}DELIVERY_PARTITIONS": str(settings.delivery_partitions),
    }


@contextmanager
def _lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data directory. Raises `Misconfigured` if another `up` holds it."""
    try:
        lock = (data_dir / "up.lock").open("w")
    except OSError as error:
        raise Misconfigured(f"SCORM_WEBHOOKS_DATA_DIR: {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(
                f"SCORM_WEBHOOKS_DATA_DIR: another `scorm-webhooks up` runs in {data_dir}; stop it or choose another"
            ) from None
        yield
