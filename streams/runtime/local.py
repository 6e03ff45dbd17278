"""`up`: every stage on one machine, with an embedded broker and SQLite unless told otherwise."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.sql.migrate import upgrade
from streams.adapters.sql.outbox import LEASE_SECONDS, SqlLease
from streams.core.delivery import DeathReason, State
from streams.core.errors import Misconfigured
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.health_server import serving
from streams.runtime.sockets import listen
from streams.runtime.startup import STAGES
from streams.runtime.supervisor import Supervisor
from streams.settings import PREFIX, Settings
from streams.telemetry import PrometheusTelemetry

EMBEDDED_WARNING = (
    "embedded broker: for trying only. It keeps records in this process's memory (5 MB a partition) and loses them "
    "when it ends; set KAFKA_BOOTSTRAP_SERVERS for a real one"
)


@asynccontextmanager
async def system(
    deployment: SqlDeployment, telemetry: PrometheusTelemetry, logs: Path | None = None
) -> AsyncIterator[Supervisor]:
    """All stages of a deployment, running in the block; its broker's address is left in the data directory."""
    deployment.make_data_dir()
    with _broker(deployment, telemetry) as environ:
        upgrade(deployment.database_url)
        if _is_embedded(deployment):
            await _end_what_was_forgotten(deployment, telemetry)
        options = ("--sole-member",) if _is_embedded(deployment) else ()
        supervisor = Supervisor(list(STAGES), environ, telemetry, logs, options)
        running = asyncio.create_task(supervisor.run())
        try:
            # Let it start its children before anybody asks for them.
            await asyncio.sleep(0)
            yield supervisor
        finally:
            # One that stops by itself has something to say, once the last stage has ended.
            if supervisor.is_running:
                running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            if _is_embedded(deployment):
                await _say_what_is_lost(deployment, telemetry)


def _is_embedded(deployment: SqlDeployment) -> bool:
    return not deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS")


async def _end_what_was_forgotten(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
    """Nothing is in the new broker yet: what waits by SQL was in the last one."""
    lease = deployment.lease("publish")
    # A data directory has one `up` at a time; to a database on a server another deployment may be connected.
    if not deployment.database.is_sqlite and not await _take(lease):
        telemetry.info("another deployment uses this database: its deliveries are left as they are")
        return
    if ended := await deployment.forgotten().end():
        telemetry.count("dead_letters_total", ended, reason=str(DeathReason.BROKER_RESTARTED))
        telemetry.info(
            "the last embedded broker ended with deliveries in it; they are dead letters now: "
            "`scorm-webhooks dead-letters retry --all --reason broker_restarted` sends them",
            deliveries=ended,
        )
    await lease.release()


async def _take(lease: SqlLease) -> bool:
    """A publisher that was killed holds its lease for some seconds more."""
    for _ in range(int(LEASE_SECONDS) + 2):
        if await lease.renew():
            return True
        await asyncio.sleep(1)
    return False


async def _say_what_is_lost(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
    state_counts = (
        count_states for found in (await deployment.deliveries().count_states()).values() for count_states in found
    )
    if lost := sum(count_states.count for count_states in state_counts if count_states.state is State.WAITING):
        telemetry.info(
            "the embedded broker ends; deliveries that wait in it become dead letters at the next start",
            deliveries=lost,
        )


async def serve_up(deployment: SqlDeployment) -> None:
    """`up` until SIGTERM or SIGINT. Raises `Misconfigured` when a stage cannot start."""
    telemetry = PrometheusTelemetry("up")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with _alone_in(deployment.make_data_dir()):
        await _serve(deployment, telemetry, stopping)


async def _serve(deployment: SqlDeployment, telemetry: PrometheusTelemetry, stopping: asyncio.Event) -> None:
    settings = deployment.settings
    listening = listen(settings.health_host, settings.health_port, f"{PREFIX}HEALTH")
    started: list[Supervisor] = []

    async def readiness_problems() -> list[str]:
        return await started[0].readiness_problems() if started else ["is starting"]

    try:
        async with (
            serving(listening, readiness_problems, telemetry.registry) as port,
            system(deployment, telemetry) as supervisor,
        ):
            started.append(supervisor)
            telemetry.info("up", health=f"http://{settings.health_host}:{port}/readyz", data_dir=str(settings.data_dir))
            await _until(stopping, supervisor)
            telemetry.info("stopping")
    finally:
        await deployment.database.close()


async def _until(stopping: asyncio.Event, supervisor: Supervisor) -> None:
    while not stopping.is_set() and supervisor.is_running:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 0.5)


@contextmanager
def _broker(deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> Iterator[dict[str, str]]:
    """The environment for the stages, with a broker's address in it."""
    environ = dict(deployment.environ)
    if not _is_embedded(deployment):
        yield environ
        return
    settings = deployment.settings
    telemetry.info(EMBEDDED_WARNING)
    with EmbeddedBroker(deployment.topics, settings.topic_prefix) as broker:
        try:
            settings.broker_file.write_text(json.dumps({"bootstrap": broker.bootstrap, "pid": os.getpid()}))
        except OSError as error:
            raise Misconfigured(f"SCORM_WEBHOOKS_DATA_DIR: {settings.broker_file}: {error.strerror}") from None
        try:
            yield {**_QUICK, **environ, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap, **_partitions(settings)}
        finally:
            settings.broker_file.unlink(missing_ok=True)


# It lets every fetch wait its whole time out, even when a record arrives meanwhile.
_QUICK = {"KAFKA_CONFIG_FETCH_WAIT_MAX_MS": "20"}


def _partitions(settings: Settings) -> dict[str, str]:
    # With a broker's address in their environment the stages would take a cluster's defaults.
    return {
        f"{PREFIX}EVENT_PARTITIONS": str(settings.event_partitions),
        f"{PREFIX}DELIVERY_PARTITIONS": str(settings.delivery_partitions),
    }


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Two `up` in one data directory would fight over its database and its broker's address."""
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
