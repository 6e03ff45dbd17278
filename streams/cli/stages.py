"""Run one stage, or all of them, until a signal ends it."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from streams.core.errors import Misconfigured
from streams.log_lines import configure_logging
from streams.telemetry import PrometheusTelemetry

LOG_FORMAT = "SCORM_WEBHOOKS_LOG_FORMAT"


def run_stage(name: str, health_fd: int | None, *, sole_member: bool = False) -> None:
    """Run one stage. With a health port inherited from a supervisor, it also ends when its standard input closes.

    `sole_member` says that no other process joins its consumer group.
    """
    _end_quietly_on_sigterm()
    from streams.runtime.fatal_errors import fatal_errors_logged

    with fatal_errors_logged(name, os.environ.get(LOG_FORMAT, "json")):
        _run_stage(name, health_fd, sole_member)


def _run_stage(name: str, health_fd: int | None, sole_member: bool) -> None:
    from streams.adapters.otel import otel_tracer
    from streams.runtime.deployment import Deployment
    from streams.runtime.process import run_process
    from streams.runtime.sockets import listen
    from streams.runtime.startup import prepare_stage

    deployment = replace(Deployment.from_environment(), sole_member=sole_member)
    settings = deployment.settings
    configure_logging(settings.log_format, settings.log_level, name)
    tracer = otel_tracer(deployment.environ, name)
    telemetry = PrometheusTelemetry(name, tracer)
    if health_fd is None:
        listening = listen(settings.health_host, settings.health_port, "SCORM_WEBHOOKS_HEALTH")
    else:
        listening = socket.socket(fileno=health_fd)

    async def run() -> None:
        prepare = partial(prepare_stage, name, deployment, telemetry)
        await run_process(
            prepare,
            telemetry,
            telemetry.registry,
            listening,
            stop_seconds=settings.time_limits.stop,
            until_stdin_closes=health_fd is not None,
        )

    try:
        _run(run)
    finally:
        if tracer:
            tracer.close()


def run_reconciliation(may_delete: Callable[[Sequence[str]], bool]) -> None:
    """Run one reconciliation and print its result. `may_delete` may ask a person: it runs on a thread."""
    from streams.adapters.threads import in_daemon_thread
    from streams.runtime.bootstrap import SqlDeployment
    from streams.runtime.sql_stages import PublishProcess
    from streams.runtime.startup import STAGES

    deployment = SqlDeployment.from_environment()
    configure_logging(deployment.settings.log_format, deployment.settings.log_level, "publish")
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    STAGES["publish"].checks(deployment).require(deployment)

    async def ask(strangers: Sequence[str]) -> bool:
        return await in_daemon_thread(lambda: may_delete(strangers))

    async def run() -> None:
        done = await PublishProcess(deployment, PrometheusTelemetry("publish")).reconcile(ask)
        unknown = f", {done.left} left that the database does not know" if done.left else ""
        print(f"{done.published} webhooks published again, {done.deleted} deleted{unknown}")

    _run(run)


def run_up() -> None:
    """Run all stages, each in a child process."""
    _end_quietly_on_sigterm()
    from streams.runtime.fatal_errors import fatal_errors_logged

    with fatal_errors_logged("up", os.environ.get(LOG_FORMAT, "console")):
        from streams.runtime.bootstrap import SqlDeployment
        from streams.runtime.local import serve_up

        deployment = SqlDeployment.from_environment({LOG_FORMAT: "console", **os.environ})
        configure_logging(deployment.settings.log_format, deployment.settings.log_level, "up")
        _run(lambda: serve_up(deployment))


def run_the_demo(events: int | None, leave: bool, seed: int, receivers: Path | None) -> None:
    """Run the demo, which needs the extra `demo`."""
    try:
        from streams.demo.run import run_demo
    except ModuleNotFoundError as missing:
        raise Misconfigured(f"the demo needs {missing.name}: pip install 'scorm-webhooks[demo]'") from None

    _run(lambda: run_demo(events, leave, seed, receivers))


def _end_quietly_on_sigterm() -> None:
    """Until the process has work in hand and drains at a signal.

    An exception would be lost, and the signal with it, where C code calls Python and ignores what it raises.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    uvloop.run(work())
