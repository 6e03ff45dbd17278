"""Every expression of rules, pages and panels is PromQL, and names metrics that exist."""

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

import grafana_dashboard as dashboard
from alerts.metrics import grouped_in_vain, unknown_in
from alerts.rules import RULES, promtool
from alerts.runbooks import pages, queries
from alerts.test_rules import FILES
from streams.metrics import COUNTERS, KNOWN_VALUES
from streams.telemetry import PrometheusTelemetry


def expressions() -> list[tuple[str, str]]:
    """Each expression outside of the rules, with its place."""
    panels = ((f"panel {title}", dashboard.in_prometheus(query)) for title, query in dashboard.expressions())
    return [*((page.stem, query) for page in pages() for query in queries(page)), *panels]


@pytest.mark.usefixtures("promtool_program")
def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"expression:{number}", "expr": query} for number, (_, query) in enumerate(expressions())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint", "none", tmp_path / "rules.yaml")
    assert checked.returncode == 0, checked.stderr


def test_every_expression_names_known_metrics_only() -> None:
    wrong = {f"{place}: {query}": unknown_in(query) for place, query in expressions()}
    assert {place: names for place, names in wrong.items() if names} == {}


def test_no_expression_groups_by_a_label_that_no_metric_has() -> None:
    assert {f"{place}: {query}": labels for place, query in expressions() if (labels := grouped_in_vain(query))} == {}


@pytest.mark.parametrize("path", [RULES, *FILES], ids=lambda path: path.stem)
def test_rules_and_their_tests_name_known_metrics_only(path: Path) -> None:
    assert unknown_in(path.read_text()) == []


def test_a_bucket_that_is_selected_is_exposed() -> None:
    lines = generate_latest(PrometheusTelemetry("deliver").registry).decode()
    queries = RULES.read_text() + "".join(query for _, query in expressions())
    selected = set(re.findall(r'scorm_webhooks_(\w+_bucket)\{[^}]*le="([^"]+)"', queries))
    assert selected
    assert [(name, bound) for name, bound in selected if f'scorm_webhooks_{name}{{le="{bound}"}}' not in lines] == []


def test_a_counter_that_a_rule_selects_from_starts_at_zero() -> None:
    # increase() sees nothing where a series begins: the first dead letter would raise no alert.
    counted = re.findall(r"increase\(scorm_webhooks_(\w+_total)", RULES.read_text())
    labelled = {name for name in counted if name in COUNTERS and COUNTERS[name][1]}
    assert labelled
    assert labelled <= KNOWN_VALUES.keys()
