"""Make a stage by its name, once its prerequisites are there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.adapters.kafka.connection.tokens import TokenSource, keep_token
from streams.adapters.threads import run_in_daemon_thread
from streams.outage import Outages
from streams.runtime.deployment import Deployment
from streams.runtime.running_stage import Runnable
from streams.runtime.startup_checks import StartupChecks
from streams.tasks import run_until_first_ends
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

StageFactory = Callable[[Deployment, PrometheusTelemetry], Runnable]


@dataclass(frozen=True)
class StageSpec:
    """The prerequisites of a stage, and its classes as `module:Class` in this folder, imported when the stage starts.

    `process` is made of a deployment, which is `database_deployment` if the stage needs the database. `check_settings`
    raises `Misconfigured` for a wrong setting at once.
    """

    process: str
    required_topics: Callable[[Deployment], Sequence[str]]
    database_deployment: str | None = None
    check_settings: Callable[[Deployment], object] = lambda _: None

    def startup_checks(self, deployment: Deployment) -> StartupChecks:
        """The checks before the start. Raises `Misconfigured` for settings that declare no valid topics."""
        _ = deployment.topics
        return StartupChecks(self.required_topics(deployment), self.database_deployment is not None)

    def load_factory(self) -> StageFactory:
        """Import the parts, which may take a second."""
        make_process: StageFactory = _load(self.process)
        if self.database_deployment is None:
            return make_process
        return partial(_make_with_database, _load(self.database_deployment), make_process)


async def prepare_stage(
    name: str,
    deployment: Deployment,
    telemetry: PrometheusTelemetry,
    on_wait: Callable[[str], None],
    import_lock: asyncio.Lock | None = None,
) -> Runnable:
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
    source = deployment.token_source
    return StageWithToken(stage, source, deployment.outages(telemetry)) if source else stage


class StageWithToken:
    """A stage that renews the token of its Kafka clients."""

    def __init__(self, stage: Runnable, token_source: TokenSource, outages: Outages) -> None:
        self._stage = stage
        self._renew_token = partial(keep_token, token_source, outages)
        self.drain, self.readiness_problems = stage.drain, stage.readiness_problems

    async def run(self) -> None:
        await run_until_first_ends(self._stage.run, self._renew_token)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"streams.runtime.{module}"), name)


def _make_with_database(
    deployment_type: "type[SqlParts]",
    make_process: Callable[["SqlParts", PrometheusTelemetry], Runnable],
    deployment: Deployment,
    telemetry: PrometheusTelemetry,
) -> Runnable:
    with_sql = deployment_type(
        deployment.settings, deployment.environ, deployment.sole_member, deployment.shares_api_port
    )
    # The stages of a process have one pool, and one token for Kafka.
    vars(with_sql)["database"] = deployment.database.share()
    if "kafka" in vars(deployment):
        vars(with_sql)["kafka"] = deployment.kafka
    telemetry.before_collect(lambda: _report_pool(with_sql, telemetry))
    return make_process(with_sql, telemetry)


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
        "stages:FanOutProcess",
        required_topics=lambda _: [SESSION_EVENTS, INVALID, SUBSCRIPTIONS, DELIVERIES, BULK_DELIVERIES],
        check_settings=_check_fan_out,
    ),
    "deliver": StageSpec(
        "stages:DeliverProcess",
        required_topics=lambda deployment: [SUBSCRIPTIONS, ERASURES, *delivery_family(deployment.tiers), INVALID],
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It recognizes erased learners by an encrypted key.
    "record": StageSpec(
        "stages:RecordProcess",
        required_topics=lambda _: [*RECORD_INPUTS, INVALID],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It releases held deliveries to `deliveries`, or ends them in `deliveries.dead-letter`, and sends our own events.
    "publish": StageSpec(
        "sql_stages:PublishProcess",
        required_topics=lambda _: [SUBSCRIPTIONS, ERASURES, SESSION_EVENTS, DELIVERIES, DEAD_LETTERS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    # It reads past events for backfills.
    "maintain": StageSpec(
        "sql_stages:MaintainProcess",
        required_topics=lambda _: [SESSION_EVENTS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "meter": StageSpec(
        "sql_stages:MeterProcess",
        required_topics=lambda _: [SESSION_EVENTS],
        database_deployment="sql_parts:SqlParts",
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "notify": StageSpec(
        "sql_stages:NotifyProcess", required_topics=lambda _: [], database_deployment="sql_parts:SqlParts"
    ),
    "api": StageSpec(
        "api_stage:ApiProcess",
        required_topics=lambda _: [SESSION_EVENTS, TEST_DELIVERIES],
        database_deployment="bootstrap:SqlDeployment",
        check_settings=lambda deployment: deployment.encryption,
    ),
}
