"""Make a stage by its name, once its prerequisites exist."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.adapters.kafka.connection.tokens import keep_token
from streams.adapters.threads import run_in_daemon_thread
from streams.runtime.deployment import Deployment
from streams.runtime.running_stage import Stage
from streams.runtime.startup_checks import StartupChecks
from streams.telemetry import PrometheusTelemetry
from streams.topics import (
    BULK_DELIVERIES,
    DEAD_LETTERS,
    DELIVERIES,
    ERASURES,
    INVALID,
    RECORD_INPUTS,
    SESSION_EVENTS,
    SUBSCRIPTIONS,
    TEST_DELIVERIES,
    delivery_family,
)

if TYPE_CHECKING:
    from streams.runtime.sql_parts import SqlParts

StageFactory = Callable[[Deployment, PrometheusTelemetry], Stage]


@dataclass(frozen=True)
class StageSpec:
    """The prerequisites of a stage, and its names as `module:name` in this folder, imported when the stage starts.

    `factory` takes a deployment, which is `database_deployment` if the stage needs the database. `check_settings`
    raises `Misconfigured` for a wrong setting at once.
    """

    factory: str
    required_topics: Callable[[Deployment], Sequence[str]]
    database_deployment: str | None = None
    check_settings: Callable[[Deployment], object] = lambda _: None

    def startup_checks(self, deployment: Deployment) -> StartupChecks:
        """The checks before the start. Raises `Misconfigured` for settings that declare no valid topics."""
        _ = deployment.topics
        return StartupChecks(self.required_topics(deployment), self.database_deployment is not None)

    def load_factory(self) -> StageFactory:
        """Import the parts, which may take a second."""
        make_stage: StageFactory = _load(self.factory)
        if self.database_deployment is None:
            return make_stage
        return partial(_make_with_database, _load(self.database_deployment), make_stage)


async def prepare_stage(
    name: str,
    deployment: Deployment,
    telemetry: PrometheusTelemetry,
    on_wait: Callable[[str], None],
    import_lock: asyncio.Lock | None = None,
) -> Stage:
    """Wait for the prerequisites, then make the stage. `on_wait` takes each wait's reason. Raises `Misconfigured`.

    The stages of a process share `import_lock`: a thread must not see a module that another has half imported.
    """
    spec = STAGES[name]
    if import_lock:
        async with import_lock:
            await run_in_daemon_thread(spec.load_factory)
    await run_in_daemon_thread(lambda: spec.check_settings(deployment))
    await spec.startup_checks(deployment).wait_until_met(deployment, deployment.outages(telemetry), on_wait)
    factory = await run_in_daemon_thread(spec.load_factory)
    stage = factory(deployment, telemetry)
    if source := deployment.token_source:
        renew_token = partial(keep_token, source, deployment.outages(telemetry))
        return replace(stage, tasks=[*stage.tasks, renew_token])
    return stage


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"streams.runtime.{module}"), name)


def _make_with_database(
    deployment_type: "type[SqlParts]",
    make_stage: Callable[["SqlParts", PrometheusTelemetry], Stage],
    deployment: Deployment,
    telemetry: PrometheusTelemetry,
) -> Stage:
    with_sql = deployment_type(
        deployment.settings, deployment.environ, deployment.sole_member, deployment.shares_api_port
    )
    # The stages of a process have one pool, and one token for Kafka.
    vars(with_sql)["database"] = deployment.database.share()
    if "kafka" in vars(deployment):
        vars(with_sql)["kafka"] = deployment.kafka
    telemetry.before_collect(lambda: _report_pool(with_sql, telemetry))
    return make_stage(with_sql, telemetry)


def _report_pool(deployment: "SqlParts", telemetry: PrometheusTelemetry) -> None:
    pool_use = deployment.database.pool_use()
    telemetry.gauge("database_pool_size", pool_use.size)
    telemetry.gauge_all("database_connections", {("in_use",): pool_use.in_use, ("idle",): pool_use.idle})


def _check_fan_out(deployment: Deployment) -> None:
    _ = deployment.event_codec
    if deployment.settings.fan_out_consumer == "faust":
        # On this thread: its import takes a second, in which the event loop would respond to no probe.
        import_module("streams.adapters.faust.client")


STAGES: dict[str, StageSpec] = {
    "fan-out": StageSpec(
        "stages:fan_out",
        required_topics=lambda _: [SESSION_EVENTS, INVALID, SUBSCRIPTIONS, DELIVERIES, BULK_DELIVERIES],
        check_settings=_check_fan_out,
    ),
    "deliver": StageSpec(
        "stages:deliver",
        required_topics=lambda deployment: [SUBSCRIPTIONS, ERASURES, *delivery_family(deployment.tiers), INVALID],
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It recognizes erased learners by an encrypted key.
    "record": StageSpec(
        "stages:record",
        required_topics=lambda _: [*RECORD_INPUTS, INVALID],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It releases held deliveries to `deliveries`, or ends them in `deliveries.dead-letter`, and sends the system's own
    # events.
    "publish": StageSpec(
        "sql_stages:publish",
        required_topics=lambda _: [SUBSCRIPTIONS, ERASURES, SESSION_EVENTS, DELIVERIES, DEAD_LETTERS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    # It reads past events for backfills.
    "maintain": StageSpec(
        "sql_stages:maintain",
        required_topics=lambda _: [SESSION_EVENTS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "meter": StageSpec(
        "sql_stages:meter",
        required_topics=lambda _: [SESSION_EVENTS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "notify": StageSpec("sql_stages:notify", required_topics=lambda _: [], database_deployment="sql_parts:SqlParts"),
    "api": StageSpec(
        "api_stage:api",
        required_topics=lambda _: [SESSION_EVENTS, TEST_DELIVERIES],
        database_deployment="bootstrap:SqlDeployment",
        check_settings=lambda deployment: deployment.encryption,
    ),
}
