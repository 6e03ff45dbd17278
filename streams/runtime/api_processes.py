"""Several processes of the `api` stage on one port, with one health port for all of them."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.runtime.deployment import Deployment
from streams.runtime.health_server import serve_health
from streams.runtime.sockets import listen
from streams.runtime.supervisor import Supervisor, causes_with_stages
from streams.tasks import run_until_first_ends, stop_signal
from streams.telemetry import PrometheusTelemetry

SHARES_PORT_OPTION = "--shares-port"


async def serve_api(deployment: Deployment, count: int) -> None:
    """Run `count` processes of `api` until SIGTERM or SIGINT; one that ends is started again.

    The kernel deals new connections out to them. It is ready while one of them is. Raises `Misconfigured`.
    """
    settings, telemetry = deployment.settings, PrometheusTelemetry("api")
    # A port that another program has would be shared with it.
    listen(settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API").close()
    health_socket = listen(settings.health_host, settings.health_port, "SCORM_WEBHOOKS_HEALTH")
    stop_event = stop_signal()
    names = [f"api-{number}" for number in range(1, count + 1)]
    supervisor = Supervisor(
        names,
        dict(deployment.environ),
        telemetry,
        settings.time_limits.kill_seconds,
        child_options=(SHARES_PORT_OPTION,),
        stage_of=lambda _: "api",
    )

    async def readiness_problems() -> list[str]:
        problems = await supervisor.problems()
        return causes_with_stages(problems) if len(problems) == count else []

    async def metrics() -> tuple[bytes, str]:
        return generate_latest(_to_registry(await supervisor.metrics())), CONTENT_TYPE_LATEST

    async with serve_health(health_socket, readiness_problems, metrics) as port:
        telemetry.info("started", health_port=port, processes=count)
        await run_until_first_ends(supervisor.run, stop_event.wait)
        telemetry.info("stopped")


def _to_registry(texts: Mapping[str, str]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_MergedCollector(merge_metrics(texts)))
    return registry


def merge_metrics(texts: Mapping[str, str]) -> Iterable[Metric]:
    """The metrics of all processes, each with the label `process`."""
    merged_metrics: dict[str, Metric] = {}
    for process, text in texts.items():
        for metric_family in text_string_to_metric_families(text):
            merged_metric = merged_metrics.setdefault(
                metric_family.name, Metric(metric_family.name, metric_family.documentation, metric_family.type)
            )
            merged_metric.samples += [
                sample._replace(labels={"process": process, **sample.labels}) for sample in metric_family.samples
            ]
    return merged_metrics.values()


class _MergedCollector(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
