"""Stages scale by lateness or CPU, never beyond their partitions, and give way to a drained node one by one."""

from typing import Any

import pytest

from chart.rendering import FULLNAME, NAMESPACE, STAGES, Resource, at, merged, render, render_file
from chart_files import ROOT
from streams.metrics import GAUGES
from streams.metrics import NAMESPACE as METRICS

PROMETHEUS = at("keda.prometheusAddress", "http://prometheus:9090")
OVERDUE = f"{METRICS}_deliver_overdue_seconds"


def autoscaled(stage: str, by: str, **options: Any) -> dict[str, Any]:
    return {**at(f"stages.{stage}.autoscaling", {"by": by, **options}), **PROMETHEUS}


def metrics_of(hpa: Resource) -> dict[str, Any]:
    return {one["type"]: one for one in hpa["spec"]["metrics"]}


def triggers_of(scaled: Resource) -> dict[str, Any]:
    return {one["type"]: one for one in scaled["spec"]["triggers"]}


def test_nothing_scales_unless_it_is_asked_for() -> None:
    assert not render().of_kind("HorizontalPodAutoscaler") + render().of_kind("ScaledObject")


def test_the_metric_of_lateness_exists() -> None:
    assert "deliver_overdue_seconds" in GAUGES


def test_a_horizontal_pod_autoscaler_reads_lateness_and_cpu() -> None:
    values = autoscaled("deliver", "hpa", minReplicas=3, maxReplicas=9, overdueSeconds=7, cpuPercent=60)
    hpa = render(values).find("HorizontalPodAutoscaler", "deliver")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (3, 9)
    assert hpa["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": f"{FULLNAME}-deliver",
    }
    metrics = metrics_of(hpa)
    assert metrics["Pods"]["pods"] == {
        "metric": {"name": OVERDUE},
        "target": {"type": "AverageValue", "averageValue": "7"},
    }
    assert metrics["Resource"]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}


def test_keda_reads_lateness_and_cpu() -> None:
    values = autoscaled("deliver", "keda", minReplicas=3, maxReplicas=9, overdueSeconds=7, cpuPercent=60)
    scaled = render(values).find("ScaledObject", "deliver")
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (3, 9)
    assert scaled["spec"]["scaleTargetRef"]["name"] == f"{FULLNAME}-deliver"
    triggers = triggers_of(scaled)
    # By ratio: twice as late as the threshold doubles the processes.
    assert triggers["prometheus"]["metricType"] == "Value"
    assert triggers["prometheus"]["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": f'max({OVERDUE}{{namespace="{NAMESPACE}", pod=~"{FULLNAME}-deliver-.*"}})',
        "threshold": "7",
    }
    assert triggers["cpu"] == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}


def test_keda_may_ask_another_prometheus_in_another_way() -> None:
    keda = {
        "prometheusAddress": "https://metrics.example.com",
        "overdueQuery": "max(late)",
        "authenticationRef": {"name": "prometheus"},
    }
    scaled = render(merged(autoscaled("deliver", "keda"), {"keda": keda})).find("ScaledObject", "deliver")
    trigger = triggers_of(scaled)["prometheus"]
    assert trigger["metadata"]["serverAddress"] == "https://metrics.example.com"
    assert trigger["metadata"]["query"] == "max(late)"
    assert trigger["authenticationRef"] == {"name": "prometheus"}


@pytest.mark.parametrize("stage", ["record", "api"])
def test_other_stages_scale_by_cpu(stage: str) -> None:
    hpa = render(autoscaled(stage, "hpa")).find("HorizontalPodAutoscaler", stage)
    assert metrics_of(hpa).keys() == {"Resource"}
    scaled = render(autoscaled(stage, "keda")).find("ScaledObject", stage)
    assert triggers_of(scaled).keys() == {"cpu"}


@pytest.mark.parametrize(("option", "left"), [("overdueSeconds", {"Resource"}), ("cpuPercent", {"Pods"})])
def test_either_reason_to_scale_can_be_left_out(option: str, left: set[str]) -> None:
    hpa = render(autoscaled("deliver", "hpa", **{option: None})).find("HorizontalPodAutoscaler", "deliver")
    assert metrics_of(hpa).keys() == left


def test_processes_are_removed_one_by_one() -> None:
    # Lateness falls to 0 as soon as there are free slots.
    hpa = render(autoscaled("deliver", "hpa")).find("HorizontalPodAutoscaler", "deliver")
    scaled = render(autoscaled("deliver", "keda")).find("ScaledObject", "deliver")
    behavior = hpa["spec"]["behavior"]
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == behavior


@pytest.mark.parametrize("key", STAGES)
def test_a_drained_node_takes_one_process_of_a_stage(key: str) -> None:
    budget = render().find("PodDisruptionBudget", STAGES[key])
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    labels = budget["spec"]["selector"]["matchLabels"]
    assert labels.items() <= render().pod(STAGES[key])["metadata"]["labels"].items()
    assert labels["app.kubernetes.io/component"] == STAGES[key]


def test_a_disruption_budget_can_be_changed_or_left_out() -> None:
    own = {"maxUnavailable": None, "minAvailable": "50%"}
    assert render(at("stages.api.podDisruptionBudget", own)).find("PodDisruptionBudget", "api")["spec"][
        "minAvailable"
    ] == ("50%")
    without = render(at("stages.api.podDisruptionBudget", None))
    assert len(without.of_kind("PodDisruptionBudget")) == len(STAGES) - 1


def test_production_survives_a_zone() -> None:
    rendered = render_file(ROOT / "deploy" / "helm" / "values" / "production.yaml")
    for stage in STAGES.values():
        assert rendered.workload(stage)["spec"]["replicas"] >= 2
        zones = rendered.pod(stage)["spec"]["topologySpreadConstraints"][0]
        assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "DoNotSchedule")
