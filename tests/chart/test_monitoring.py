"""Prometheus finds the metrics of every stage once, and the alerts that the chart has."""

import shutil
from pathlib import Path

import pytest

from chart.generated import CHART
from chart.rendering import FULLNAME, MINIMAL, at, merged, parse, render, template
from chart.schemas import problems

RULES = """groups:
  - name: scorm-webhooks
    rules:
      - alert: NotReady
        expr: scorm_webhooks_ready == 0
        annotations:
          summary: "{{ $labels.pod }} is not ready"
"""


@pytest.fixture
def chart_with_rules(tmp_path: Path) -> Path:
    """A copy of the chart that has alerts."""
    chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
    (chart / "files" / "rules.yaml").write_text(RULES)
    return chart


@pytest.mark.parametrize(("option", "kind"), [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor")])
def test_a_monitor_selects_the_release(option: str, kind: str) -> None:
    assert render().of_kind(kind) == []
    values = at("monitoring", {option: {"enabled": True}, "interval": "30s", "labels": {"release": "prometheus"}})
    [monitor] = render(values).of_kind(kind)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "scorm-webhooks", "app.kubernetes.io/instance": "acme"}
    [endpoint] = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "interval": "30s"}
    assert problems(monitor) == []


def test_a_service_monitor_reads_each_stage_once() -> None:
    services = [
        service["metadata"]["labels"]["app.kubernetes.io/component"]
        for service in render().of_kind("Service")
        if any(port["name"] == "metrics" for port in service["spec"]["ports"])
    ]
    assert sorted(services) == ["api", "deliver", "fan-out", "meter", "notify", "publish", "record"]


def test_alerts_are_read_from_the_charts_file(chart_with_rules: Path) -> None:
    values = merged(MINIMAL, at("monitoring", {"prometheusRule": {"enabled": True}, "labels": {"release": "x"}}))
    done = template(values, chart=chart_with_rules)
    [rule] = parse(done.stdout).of_kind("PrometheusRule")
    assert problems(rule) == []
    assert (rule["metadata"]["name"], rule["metadata"]["labels"]["release"]) == (FULLNAME, "x")
    # A template of Prometheus, not one of helm.
    [alert] = rule["spec"]["groups"][0]["rules"]
    assert alert["annotations"]["summary"] == "{{ $labels.pod }} is not ready"
    assert parse(template(MINIMAL, chart=chart_with_rules).stdout).of_kind("PrometheusRule") == []
