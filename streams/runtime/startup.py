"""Make a stage by its name, once its prerequisites are there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

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

AnySqlParts = TypeVar("AnySqlParts", bound="SqlParts")
StageFactory = Callable[[Deployment, PrometheusTelemetry], Runnable]


@dataclass(frozen=True)
class StageSpec:
    """The prerequisites of a stage, and how to make it.

    `load_factory` imports its parts, which may take a second. `check_settings` raises `Misconfigured` for a wrong
    setting at once.
    """

    required_topics: Callable[[Deployment], Sequence[str]]
    load_factory: Callable[[Deployment], StageFactory]
    needs_database: bool = False
    check_settings: Callable[[Deployment], object] = lambda _: None

    def startup_checks(self, deployment: Deployment) -> StartupChecks:
        """The checks before the start. Raises `Misconfigured` for settings that declare no valid topics."""
        _ = deployment.topics
        return StartupChecks(self.required_topics(deployment), self.needs_database)


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
            await run_in_daemon_thread(lambda: spec.load_factory(deployment))
    await run_in_daemon_thread(lambda: spec.check_settings(deployment))
    await spec.startup_checks(deployment).wait_until_met(deployment, deployment.outages(telemetry), on_wait)
    factory = await run_in_daemon_thread(lambda: spec.load_factory(deployment))
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


def _load_fan_out(deployment: Deployment) -> StageFactory:
    if deployment.settings.fan_out_consumer == "faust":
        import_module("streams.adapters.faust.client")
    from streams.runtime.stages import FanOutProcess

    return FanOutProcess


def _load_deliver(_: Deployment) -> StageFactory:
    from streams.runtime.stages import DeliverProcess

    return DeliverProcess


def _load_record(_: Deployment) -> StageFactory:
    from streams.runtime.stages import RecordProcess

    return _with_sql_parts(RecordProcess)


def _load_publish(_: Deployment) -> StageFactory:
    from streams.runtime.sql_stages import PublishProcess

    return _with_sql_parts(PublishProcess)


def _load_maintain(_: Deployment) -> StageFactory:
    from streams.runtime.sql_stages import MaintainProcess

    return _with_sql_parts(MaintainProcess)


def _load_meter(_: Deployment) -> StageFactory:
    from streams.runtime.sql_stages import MeterProcess

    return _with_sql_parts(MeterProcess)


def _load_notify(_: Deployment) -> StageFactory:
    from streams.runtime.sql_stages import NotifyProcess

    return _with_sql_parts(NotifyProcess)


def _load_api(_: Deployment) -> StageFactory:
    from streams.runtime.api_stage import ApiProcess
    from streams.runtime.bootstrap import SqlDeployment

    return _factory_with(SqlDeployment, ApiProcess)


def _with_sql_parts(process: Callable[["SqlParts", PrometheusTelemetry], Runnable]) -> StageFactory:
    """The factory of a stage that uses the database but no service."""
    from streams.runtime.sql_parts import SqlParts

    return _factory_with(SqlParts, process)


def _factory_with(
    deployment_type: "type[AnySqlParts]", make_process: "Callable[[AnySqlParts, PrometheusTelemetry], Runnable]"
) -> StageFactory:
    def make_stage(deployment: Deployment, telemetry: PrometheusTelemetry) -> Runnable:
        with_sql = deployment_type(
            deployment.settings, deployment.environ, deployment.sole_member, deployment.shares_api_port
        )
        # The stages of a process have one pool, and one token for Kafka.
        vars(with_sql)["database"] = deployment.database.share()
        if "kafka" in vars(deployment):
            vars(with_sql)["kafka"] = deployment.kafka
        telemetry.before_collect(lambda: _report_pool(with_sql, telemetry))
        return make_process(with_sql, telemetry)

    return make_stage


def _report_pool(deployment: "SqlParts", telemetry: PrometheusTelemetry) -> None:
    pool_use = deployment.database.pool_use()
    telemetry.gauge("database_pool_size", pool_use.size)
    telemetry.gauge_all("database_connections", {("in_use",): pool_use.in_use, ("idle",): pool_use.idle})


STAGES: dict[str, StageSpec] = {
    "fan-out": StageSpec(
        required_topics=lambda _: [SESSION_EVENTS, INVALID, SUBSCRIPTIONS, DELIVERIES, BULK_DELIVERIES],
        load_factory=_load_fan_out,
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "deliver": StageSpec(
        required_topics=lambda deployment: [SUBSCRIPTIONS, ERASURES, *delivery_family(deployment.tiers), INVALID],
        load_factory=_load_deliver,
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It recognizes erased learners by an encrypted key.
    "record": StageSpec(
        required_topics=lambda _: [*RECORD_INPUTS, INVALID],
        load_factory=_load_record,
        needs_database=True,
        check_settings=lambda deployment: deployment.encryption,
    ),
    # It releases held deliveries to `deliveries`, or ends them in `deliveries.dead-letter`, and sends our own events.
    "publish": StageSpec(
        required_topics=lambda _: [SUBSCRIPTIONS, ERASURES, SESSION_EVENTS, DELIVERIES, DEAD_LETTERS],
        load_factory=_load_publish,
        needs_database=True,
        check_settings=lambda deployment: deployment.event_codec,
    ),
    # It reads past events for backfills.
    "maintain": StageSpec(
        required_topics=lambda _: [SESSION_EVENTS],
        load_factory=_load_maintain,
        needs_database=True,
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "meter": StageSpec(
        required_topics=lambda _: [SESSION_EVENTS],
        load_factory=_load_meter,
        needs_database=True,
        check_settings=lambda deployment: deployment.event_codec,
    ),
    "notify": StageSpec(required_topics=lambda _: [], load_factory=_load_notify, needs_database=True),
    "api": StageSpec(
        required_topics=lambda _: [SESSION_EVENTS, TEST_DELIVERIES],
        load_factory=_load_api,
        needs_database=True,
        check_settings=lambda deployment: deployment.encryption,
    ),
}
