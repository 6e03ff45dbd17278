"""From a stage's name to its parts: wait for what the stage needs, then make it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from streams.adapters.threads import in_daemon_thread
from streams.runtime.deployment import Deployment
from streams.runtime.process import Runnable
from streams.runtime.startup_checks import StartupChecks
from streams.telemetry import PrometheusTelemetry
from streams.topics import (
    DEAD_LETTERS,
    DELIVERIES,
    INVALID,
    RECORDED,
    SESSION_EVENTS,
    SUBSCRIPTIONS,
    TEST_DELIVERIES,
    delivery_family,
)

if TYPE_CHECKING:
    from streams.runtime.bootstrap import SqlDeployment

Factory = Callable[[Deployment, PrometheusTelemetry], Runnable]


@dataclass(frozen=True)
class StageSpec:
    """What a stage needs before it starts, and how it is made.

    `load` imports its parts, which may take a second. `check` makes what can show a wrong setting at once.
    """

    topics: Callable[[Deployment], Sequence[str]]
    load: Callable[[], Factory]
    database: bool = False
    check: Callable[[Deployment], object] = lambda _: None

    def checks(self, deployment: Deployment) -> StartupChecks:
        """Raises `Misconfigured` for settings that declare no topics."""
        _ = deployment.topics
        return StartupChecks(self.topics(deployment), self.database)


class StageStartup:
    """A `Startup` of the stage of this name."""

    def __init__(self, name: str, deployment: Deployment, telemetry: PrometheusTelemetry) -> None:
        self._kind = STAGES[name]
        self._deployment, self._telemetry = deployment, telemetry
        self._waits_for = "is starting"

    async def prepare(self) -> Runnable:
        await in_daemon_thread(lambda: self._kind.check(self._deployment))
        await self._kind.checks(self._deployment).wait(self._deployment, self._tell)
        factory = await in_daemon_thread(self._kind.load)
        return factory(self._deployment, self._telemetry)

    def readiness_problems(self) -> list[str]:
        return [self._waits_for]

    def _tell(self, reason: str) -> None:
        self._waits_for = reason


def _fan_out() -> Factory:
    import_module("streams.adapters.faust_app")
    from streams.runtime.stages import FanOutProcess

    return FanOutProcess


def _deliver() -> Factory:
    from streams.runtime.stages import DeliverProcess

    return DeliverProcess


def _record() -> Factory:
    from streams.runtime.stages import RecordProcess

    return _with_sql(RecordProcess)


def _publish() -> Factory:
    from streams.runtime.sql_stages import PublishProcess

    return _with_sql(PublishProcess)


def _notify() -> Factory:
    from streams.runtime.sql_stages import NotifyProcess

    return _with_sql(NotifyProcess)


def _api() -> Factory:
    from streams.runtime.api_stage import ApiProcess

    return _with_sql(ApiProcess)


def _with_sql(process: Callable[["SqlDeployment", PrometheusTelemetry], Runnable]) -> Factory:
    """For those that work with a database, which is megabytes that `fan-out` and `deliver` do without."""
    from streams.runtime.bootstrap import SqlDeployment

    return lambda deployment, telemetry: process(
        SqlDeployment(deployment.settings, deployment.environ, deployment.sole_member), telemetry
    )


STAGES: dict[str, StageSpec] = {
    "fan-out": StageSpec(
        topics=lambda _: [SESSION_EVENTS, INVALID, SUBSCRIPTIONS, DELIVERIES],
        load=_fan_out,
        check=lambda deployment: deployment.event_codec,
    ),
    "deliver": StageSpec(
        topics=lambda deployment: [SUBSCRIPTIONS, *delivery_family(deployment.tiers), INVALID],
        load=_deliver,
        check=lambda deployment: deployment.encryption,
    ),
    "record": StageSpec(topics=lambda _: [*RECORDED, INVALID], load=_record, database=True),
    # It sends held deliveries on to `deliveries`, and ends others in `deliveries.dead-letter`.
    "publish": StageSpec(topics=lambda _: [SUBSCRIPTIONS, DELIVERIES, DEAD_LETTERS], load=_publish, database=True),
    "notify": StageSpec(topics=lambda _: [], load=_notify, database=True),
    "api": StageSpec(
        topics=lambda _: [SESSION_EVENTS, TEST_DELIVERIES],
        load=_api,
        database=True,
        check=lambda deployment: deployment.encryption,
    ),
}
