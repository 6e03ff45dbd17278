"""The metrics of child processes as the metrics of one process: a label names the child."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.runtime.supervisor import Supervisor


async def child_metrics(
    supervisor: Supervisor, label: str, own_registries: Mapping[str, CollectorRegistry] | None = None
) -> tuple[bytes, str]:
    """The metrics of every child that answers, with their content type.

    `own_registries` has the registries of this process, by the value of their label. Their metrics are shown if they
    are not 0: a supervisor has all metrics, but counts few.
    """
    metrics = merge_metrics(await supervisor.metrics(), label)
    own_metrics = merge_metrics(
        {name: generate_latest(registry).decode() for name, registry in (own_registries or {}).items()}, label
    )
    for name, metric in own_metrics.items():
        if samples := [sample for sample in metric.samples if sample.value]:
            metrics.setdefault(name, Metric(name, metric.documentation, metric.type)).samples += samples
    registry = CollectorRegistry()
    registry.register(_MergedCollector(metrics.values()))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def merge_metrics(texts: Mapping[str, str], label: str) -> dict[str, Metric]:
    """The metrics of all children by name, each with the label of its child, unless it has that label already."""
    merged_metrics: dict[str, Metric] = {}
    for child, text in texts.items():
        for metric_family in text_string_to_metric_families(text):
            merged_metric = merged_metrics.setdefault(
                metric_family.name, Metric(metric_family.name, metric_family.documentation, metric_family.type)
            )
            merged_metric.samples += [
                sample._replace(labels={label: child, **sample.labels}) for sample in metric_family.samples
            ]
    return merged_metrics


class _MergedCollector(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
