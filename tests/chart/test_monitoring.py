"""Prometheus finds the metrics of every stage once, and the alerts that the chart has."""

import pytest
import yaml

from alerts.rules import RULES, alerts
from chart.rendering import FULLNAME, at, refusal, render
from chart.schemas import problems
from grafana_dashboard import DASHBOARD


@pytest.mark.parametrize(("option", "kind"), [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor")])
def test_a_monitor_selects_the_release(option: str, kind: str) -> None:
    assert render().of_kind(kind) == []
    values = at("monitoring", {option: {"enabled": True}, "interval": "30s", "labels": {"release": "prometheus"}})
    [monitor] = render(values).of_kind(kind)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "scorm-webhooks", "app.kubernetes.io/instance": "acme"}
    [endpoint] = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    stage = {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "stage"}
    assert endpoint == {"port": "metrics", "interval": "30s", "honorLabels": True, "relabelings": [stage]}
    assert problems(monitor) == []


def test_a_service_monitor_reads_each_stage_once() -> None:
    services = [
        service["metadata"]["labels"]["app.kubernetes.io/component"]
        for service in render().of_kind("Service")
        if any(port["name"] == "metrics" for port in service["spec"]["ports"])
    ]
    assert sorted(services) == ["api", "deliver", "fan-out", "maintain", "meter", "notify", "publish", "record"]


def test_the_rules_are_those_of_the_file() -> None:
    values = at("monitoring", {"prometheusRule": {"enabled": True}, "labels": {"release": "x"}})
    [rule] = render(values).of_kind("PrometheusRule")
    assert problems(rule) == []
    assert (rule["metadata"]["name"], rule["metadata"]["labels"]["release"]) == (FULLNAME, "x")
    # Templates in them are Prometheus's, not helm's.
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert render().of_kind("PrometheusRule") == []


def test_an_alert_leads_to_the_pages_of_the_operator() -> None:
    pages = "https://runbooks.example.com/webhooks/"
    values = at("monitoring.prometheusRule", {"enabled": True, "runbookUrl": pages})
    [rule] = render(values).of_kind("PrometheusRule")
    rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["annotations"]["runbook_url"] for rule in rules} == {f"{pages}{alert.page}" for alert in alerts()}
    assert "runbookUrl" in refusal(at("monitoring.prometheusRule.runbookUrl", "https://example.com/no-slash"))


def test_grafanas_sidecar_finds_the_dashboard() -> None:
    values = at("monitoring.dashboard", {"enabled": True, "annotations": {"grafana_folder": "Webhooks"}})
    config = render(values).find("ConfigMap", "dashboard")
    assert problems(config) == []
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["metadata"]["annotations"] == {"grafana_folder": "Webhooks"}
    assert config["data"] == {"scorm-webhooks.json": DASHBOARD.read_text()}
    assert "dashboard" not in " ".join(one["metadata"]["name"] for one in render().of_kind("ConfigMap"))
