"""Make the stage of a name, after what it needs is there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from streams.adapters.kafka.tokens import TokenSource, keep_token
from streams.adapters.threads import run_in_daemon_thread
from streams.outage import Outages
from streams.runtime.deployment import Deployment
from streams.runtime.running_stage import Runnable
from streams.runtime.startup_checks import StartupChecks
from streams.tasks import together
from streams.telemetry import PrometheusTelemetry
from streams.topics import (
    BULK_DELIVERIES,
    DEAD_LETTERS,
    DELIVERIES,
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
Factory = Callable[[Deployment, PrometheusTelemetry], Runnable]


@dataclass(frozen=True)
class StageSpec:
    """What a stage needs before it starts, and how to make it.

    `load` imports its parts, which may take a second. `check` raises `Misconfigured` for a wrong setting at once.
    """

    topics: Callable[[Deployment], Sequence[str]]
    load: Callable[[Deployment], Factory]
    database: bool = False
    check: Callable[[Deployment], object] = lambda _: None

    def checks(self, deployment: Deployment) -> StartupChecks:
        """The checks before the start. Raises `Misconfigured` for settings that declare no valid topics."""
        _ = deployment.topics
        return StartupChecks(self.topics(deployment), self.database)


async def prepare_stage(
    name: str,
    deployment: Deployment,
    telemetry: PrometheusTelemetry,
    note: Callable[[str], None],
    importing: asyncio.Lock | None = None,
) -> Runnable:
    """Wait for what the stage needs, then make it. `note` takes the reason for each wait. Raises `Misconfigured`.

    Stages of one process share `importing`: a thread must not see a module that another one has half imported.
    """
    spec = STAGES[name]
    if importing:
        async with importing:
            await run_in_daemon_thread(lambda: spec.load(deployment))
    await run_in_daemon_thread(lambda: spec.check(deployment))
    await spec.checks(deployment).wait(deployment, deployment.outages(telemetry), note)
    factory = await run_in_daemon_thread(lambda: spec.load(deployment))
    stage = factory(deployment, telemetry)
    source = deployment.token_source
    return WithToken(stage, source, deployment.outages(telemetry)) if source else stage


class WithToken:
    """A stage that renews the token of its Kafka clients."""

    def __init__(self, stage: Runnable, source: TokenSource, outages: Outages) -> None:
        self._stage = stage
        self._keep_token = partial(keep_token, source, outages)
        self.drain, self.readiness_problems = stage.drain, stage.readiness_problems

    async def run(self) -> None:
        await together(self._stage.run, self._keep_token)


def _fan_out(deployment: Deployment) -> Factory:
    if deployment.settings.fan_out_consumer == "faust":
        import_module("streams.adapters.faust.stage")
    from streams.runtime.stages import FanOutProcess

    return FanOutProcess


def _deliver(_: Deployment) -> Factory:
    from streams.runtime.stages import DeliverProcess

    return DeliverProcess


def _record(_: Deployment) -> Factory:
    from streams.runtime.stages import RecordProcess

    return _with_sql(RecordProcess)


def _publish(_: Deployment) -> Factory:
    from streams.runtime.sql_stages import PublishProcess

    return _with_sql(PublishProcess)


def _maintain(_: Deployment) -> Factory:
    from streams.runtime.sql_stages import MaintainProcess

    return _with_sql(MaintainProcess)


def _meter(_: Deployment) -> Factory:
    from streams.runtime.sql_stages import MeterProcess

    return _with_sql(MeterProcess)


def _notify(_: Deployment) -> Factory:
    from streams.runtime.sql_stages import NotifyProcess

    return _with_sql(NotifyProcess)


def _api(_: Deployment) -> Factory:
    from streams.runtime.api_stage import ApiProcess
    from streams.runtime.bootstrap import SqlDeployment

    return _made_with(SqlDeployment, ApiProcess)


def _with_sql(process: Callable[["SqlParts", PrometheusTelemetry], Runnable]) -> Factory:
    """The factory of a stage that uses the database, and no service."""
    from streams.runtime.sql_parts import SqlParts

    return _made_with(SqlParts, process)


def _made_with(
    deployment_with_sql: "type[AnySqlParts]", process: "Callable[[AnySqlParts, PrometheusTelemetry], Runnable]"
) -> Factory:
    def make(deployment: Deployment, telemetry: PrometheusTelemetry) -> Runnable:
        with_sql = deployment_with_sql(
            deployment.settings, deployment.environ, deployment.sole_member, deployment.shares_api_port
        )
        # The stages of a process have one pool, and one token for Kafka.
        vars(with_sql)["database"] = deployment.database.share()
        if "kafka" in vars(deployment):
            vars(with_sql)["kafka"] = deployment.kafka
        telemetry.before_collect(lambda: _report_pool(with_sql, telemetry))
        return process(with_sql, telemetry)

    return make


def _report_pool(deployment: "SqlParts", telemetry: PrometheusTelemetry) -> None:
    use = deployment.database.pool_use()
    telemetry.gauge("database_pool_size", use.size)
    telemetry.gauge_all("database_connections", {("in_use",): use.in_use, ("idle",): use.idle})


STAGES: dict[str, StageSpec] = {
    "fan-out": StageSpec(
        topics=lambda _: [SESSION_EVENTS, INVALID, SUBSCRIPTIONS, DELIVERIES, BULK_DELIVERIES],
        load=_fan_out,
        check=lambda deployment: deployment.event_codec,
    ),
    "deliver": StageSpec(
        topics=lambda deployment: [SUBSCRIPTIONS, *delivery_family(deployment.tiers), INVALID],
        load=_deliver,
        check=lambda deployment: deployment.encryption,
    ),
    # It recognizes erased learners by a key that is encrypted.
    "record": StageSpec(
        topics=lambda _: [*RECORD_INPUTS, INVALID],
        load=_record,
        database=True,
        check=lambda deployment: deployment.encryption,
    ),
    # It releases held deliveries to `deliveries`, or ends them in `deliveries.dead-letter`; it sends events of our own.
    "publish": StageSpec(
        topics=lambda _: [SUBSCRIPTIONS, SESSION_EVENTS, DELIVERIES, DEAD_LETTERS],
        load=_publish,
        database=True,
        check=lambda deployment: deployment.event_codec,
    ),
    # It reads past events for backfills.
    "maintain": StageSpec(
        topics=lambda _: [SESSION_EVENTS],
        load=_maintain,
        database=True,
        check=lambda deployment: deployment.event_codec,
    ),
    "meter": StageSpec(
        topics=lambda _: [SESSION_EVENTS], load=_meter, database=True, check=lambda deployment: deployment.event_codec
    ),
    "notify": StageSpec(topics=lambda _: [], load=_notify, database=True),
    "api": StageSpec(
        topics=lambda _: [SESSION_EVENTS, TEST_DELIVERIES],
        load=_api,
        database=True,
        check=lambda deployment: deployment.encryption,
    ),
}
