"""Run one stage, some of them, or all, until a signal ends it."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from streams.core.errors import Misconfigured
from streams.core.webhooks.webhook import Webhook
from streams.log_lines import configure_logging
from streams.runtime.background import BACKGROUND_NAME, parse_stages
from streams.telemetry import PrometheusTelemetry, StagesCollector

if TYPE_CHECKING:
    from streams.runtime.deployment import Deployment
    from streams.runtime.running_stage import RunningStage

LOG_FORMAT_SETTING = "SCORM_WEBHOOKS_LOG_FORMAT"


def run_stage(name: str, health_fd: int | None, **deployment_fields: Any) -> None:
    """Run one stage. With a health port inherited from a supervisor, it also ends when its standard input closes.

    `deployment_fields` are fields of `Deployment` that only the starter of the process knows.
    """
    with _process_deployment(name, **deployment_fields) as deployment:
        from streams.adapters.otel import otel_tracer
        from streams.runtime.running_stage import RunningStage
        from streams.runtime.startup import prepare_stage

        tracer = otel_tracer(deployment.environ, name)
        telemetry = PrometheusTelemetry(name, tracer)
        try:
            prepare = partial(prepare_stage, name, deployment)
            _serve_stages(
                lambda: [RunningStage(prepare, telemetry)], telemetry, telemetry.registry, deployment, health_fd
            )
        finally:
            if tracer:
                tracer.close()


def run_stages(stage_names: str, health_fd: int | None, *, sole_member: bool = False) -> None:
    """Run several stages, given as a list of names, in one process. The options are those of `run_stage`."""
    with _process_deployment(BACKGROUND_NAME, sole_member=sole_member) as deployment:
        names = parse_stages(stage_names)
        from streams.runtime.running_stage import GroupedStage
        from streams.runtime.startup import prepare_stage

        telemetry, registry = PrometheusTelemetry(BACKGROUND_NAME), CollectorRegistry()
        stages: list[GroupedStage[PrometheusTelemetry]] = []

        def make_stages() -> list[GroupedStage[PrometheusTelemetry]]:
            import_lock = asyncio.Lock()
            for name in names:
                prepare = partial(prepare_stage, name, deployment, import_lock=import_lock)
                stages.append(GroupedStage(name, prepare, PrometheusTelemetry))
            return stages

        registry.register(
            StagesCollector(lambda: {BACKGROUND_NAME: telemetry, **{stage.name: stage.telemetry for stage in stages}})
        )
        _serve_stages(make_stages, telemetry, registry, deployment, health_fd)


def run_api_processes(count: int) -> None:
    """Run several processes of `api` on one port."""
    with _process_deployment("api") as deployment:
        from streams.runtime.api_processes import serve_api

        _run_async(lambda: serve_api(deployment, count))


@contextmanager
def _process_deployment(name: str, **deployment_fields: Any) -> Iterator["Deployment"]:
    """The settings and the log of a process. Logs the error that ends it."""
    _exit_at_once_on_sigterm()
    from streams.runtime.fatal_errors import log_fatal_errors

    with log_fatal_errors(name, os.environ.get(LOG_FORMAT_SETTING, "json")):
        from streams.runtime.deployment import Deployment

        deployment = replace(Deployment.from_environment(), **deployment_fields)
        configure_logging(deployment.settings.log_format, deployment.settings.log_level, name)
        yield deployment


def _serve_stages(
    make_stages: "Callable[[], Sequence[RunningStage[PrometheusTelemetry]]]",
    telemetry: PrometheusTelemetry,
    registry: CollectorRegistry,
    deployment: "Deployment",
    health_fd: int | None,
) -> None:
    from streams.runtime.process import run_process
    from streams.runtime.sockets import listen

    settings = deployment.settings
    if health_fd is None:
        health_socket = listen(settings.health_host, settings.health_port, "SCORM_WEBHOOKS_HEALTH")
    else:
        health_socket = socket.socket(fileno=health_fd)

    async def run() -> None:
        await run_process(
            make_stages(),
            telemetry,
            registry,
            health_socket,
            stop_seconds=settings.time_limits.stop_seconds,
            ends_with_stdin=health_fd is not None,
            notes=settings.notes,
        )

    _run_async(run)


def run_reconcile(may_delete: Callable[[Sequence[Webhook]], bool]) -> None:
    """Run one reconciliation and print its result. `may_delete` may ask a person."""
    from streams.runtime.bootstrap import SqlDeployment
    from streams.runtime.restore import reconcile
    from streams.runtime.startup import STAGES

    deployment = SqlDeployment.from_environment()
    configure_logging(deployment.settings.log_format, deployment.settings.log_level, "publish")
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    STAGES["publish"].startup_checks(deployment).wait_or_raise(deployment)

    async def run() -> None:
        done = await reconcile(deployment, may_delete)
        unknown_note = f", {done.webhooks.kept} left that the database does not know" if done.webhooks.kept else ""
        print(f"{done.webhooks.published} webhooks published again, {done.webhooks.deleted} deleted{unknown_note}")
        print(f"{done.deleted_again} webhooks deleted in the database, as on the topic")
        print(f"{done.erasures.published} erasures published again, {done.erasures.learned} learned from the topic")

    _run_async(run)


def run_up(*, is_small: bool) -> None:
    """Run all stages, each in a child process; with `is_small` some share one."""
    _exit_at_once_on_sigterm()
    from streams.runtime.fatal_errors import log_fatal_errors

    with log_fatal_errors("up", os.environ.get(LOG_FORMAT_SETTING, "console")):
        from streams.runtime.bootstrap import SqlDeployment
        from streams.runtime.local import serve_up
        from streams.runtime.start_lines import quiet_log_settings

        deployment = SqlDeployment.from_environment(
            {LOG_FORMAT_SETTING: "console", **quiet_log_settings(), **os.environ}
        )
        configure_logging(deployment.settings.log_format, deployment.settings.log_level, "up")
        _run_async(lambda: serve_up(deployment, is_small=is_small))


def start_demo(events: int | None, ends_when_done: bool, seed: int, receivers: Path | None) -> None:
    """Run the demo, which needs the extra `demo`."""
    try:
        from streams.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise Misconfigured(f"the demo needs {error.name}: pip install 'scorm-webhooks[demo]'") from None

    _run_async(lambda: run_demo(events, ends_when_done, seed, receivers))


def _exit_at_once_on_sigterm() -> None:
    """The signal handler until the process has work and drains at a signal.

    An exception, and the signal with it, would be lost where C code calls Python and ignores exceptions.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


def _run_async(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    uvloop.run(work())
