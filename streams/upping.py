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

from streams.adapters.health_server import serving
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.listening import listen
from streams.adapters.sql.migrate import upgrade
from streams.adapters.supervisor import Supervisor
from streams.core.delivery import State
from streams.core.errors import Misconfigured
from streams.settings import PREFIX, Settings
from streams.startup import STAGES
from streams.telemetry import PrometheusReport
from streams.wiring import Deployment

EMBEDDED_WARNING = (
    "embedded broker: for trying only. It keeps records in this process's memory (5 MB a partition) and loses them "
    "when it ends; set KAFKA_BOOTSTRAP_SERVERS for a real one"
)


@asynccontextmanager
async def system(
    deployment: Deployment, report: PrometheusReport, logs: Path | None = None
) -> AsyncIterator[Supervisor]:
    """All stages of a deployment, running in the block; its broker's address is left in the data directory."""
    with _alone_in(deployment.settings.data_dir), _broker(deployment, report) as environ:
        upgrade(deployment.database_url)
        options = () if deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS") else ("--sole-member",)
        supervisor = Supervisor(list(STAGES), environ, report, logs, options)
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
            if not deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
                await _say_what_is_lost(deployment, report)


async def _say_what_is_lost(deployment: Deployment, report: PrometheusReport) -> None:
    tallies = (tally for found in (await deployment.deliveries().tally()).values() for tally in found)
    if lost := sum(tally.count for tally in tallies if tally.state is State.WAITING):
        report.tell("the embedded broker ends; deliveries that still waited in it are lost", deliveries=lost)


async def serve_up(deployment: Deployment) -> None:
    """`up` until SIGTERM or SIGINT. Raises `Misconfigured` when a stage cannot start."""
    report = PrometheusReport("up")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings = deployment.settings
    async with (
        system(deployment, report) as supervisor,
        serving(
            listen(settings.health_host, settings.health_port, f"{PREFIX}HEALTH"),
            supervisor.troubles,
            report.registry,
        ) as port,
    ):
        report.tell("up", health=f"http://{settings.health_host}:{port}/readyz", data_dir=str(settings.data_dir))
        await _until(stopping, supervisor)
        report.tell("stopping")


async def _until(stopping: asyncio.Event, supervisor: Supervisor) -> None:
    while not stopping.is_set() and supervisor.is_running:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 0.5)


@contextmanager
def _broker(deployment: Deployment, report: PrometheusReport) -> Iterator[dict[str, str]]:
    """The environment for the stages, with a broker's address in it."""
    environ = dict(deployment.environ)
    if environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield environ
        return
    settings = deployment.settings
    report.tell(EMBEDDED_WARNING)
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
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
