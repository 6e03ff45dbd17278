"""Several processes of the `api` stage on one port, with one health port for all of them."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.runtime.deployment import Deployment
from streams.runtime.health_server import serving
from streams.runtime.sockets import listen
from streams.runtime.supervisor import Supervisor, causes
from streams.tasks import stop_signal, together
from streams.telemetry import PrometheusTelemetry

SHARES_PORT = "--shares-port"


async def serve_api(deployment: Deployment, count: int) -> None:
    """Run `count` processes of `api` until SIGTERM or SIGINT; one that ends is started again.

    The kernel deals new connections out to them. It is ready while one of them is. Raises `Misconfigured`.
    """
    settings, telemetry = deployment.settings, PrometheusTelemetry("api")
    # A port that another program has would be shared with it.
    listen(settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API").close()
    listening = listen(settings.health_host, settings.health_port, "SCORM_WEBHOOKS_HEALTH")
    stopping = stop_signal()
    names = [f"api-{number}" for number in range(1, count + 1)]
    supervisor = Supervisor(
        names,
        dict(deployment.environ),
        telemetry,
        settings.time_limits.kill_seconds,
        options=(SHARES_PORT,),
        stage_of=lambda _: "api",
    )

    async def readiness_problems() -> list[str]:
        problems = await supervisor.problems()
        return causes(problems) if len(problems) == count else []

    async def metrics() -> tuple[bytes, str]:
        return generate_latest(_registry(await supervisor.metrics())), CONTENT_TYPE_LATEST

    async with serving(listening, readiness_problems, metrics) as port:
        telemetry.info("started", health_port=port, processes=count)
        await together(supervisor.run, stopping.wait)
        telemetry.info("stopped")


def _registry(texts: Mapping[str, str]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Merged(merge(texts)))
    return registry


def merge(texts: Mapping[str, str]) -> Iterable[Metric]:
    """The metrics of all processes, each with the label `process`."""
    merged_metrics: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text):
            into = merged_metrics.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += [sample._replace(labels={"process": process, **sample.labels}) for sample in family.samples]
    return merged_metrics.values()


class _Merged(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
