"""The Grafana dashboard of the chart: rows of panels, each with its expressions.

`make generated` writes the JSON; a test compares it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "helm" / "scorm-webhooks" / "files" / "dashboard.json"
WIDTH, HEIGHT, PANELS_A_LINE = 8, 7, 3
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """A graph: its title, its unit in Grafana's words, and expressions with their legends.

    In an expression $process selects processes, and $deployment what one process exposes for all.
    """

    title: str
    unit: str
    lines: dict[str, str]
    description: str = ""


def rate(metric: str, by: str = "", selector: str = "") -> str:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate(scorm_webhooks_{metric}{{$process{selector}}}[$__rate_interval]))"


def largest(metric: str, by: str = "", selector: str = "") -> str:
    most = f"max by ({by})" if by else "max"
    return f"{most} (scorm_webhooks_{metric}{{{selector or '$process'}}})"


def whole(metric: str, by: str) -> str:
    """A metric that only `maintain` exposes, for the whole deployment."""
    return f"sum by ({by}) (max by (namespace, {by}) (scorm_webhooks_{metric}{{$deployment}}))"


def percentiles(metric: str) -> dict[str, str]:
    buckets = f"sum by (le) (rate(scorm_webhooks_{metric}_bucket{{$process}}[$__rate_interval]))"
    return {f"histogram_quantile({share / 100:g}, {buckets})": f"p{share}" for share in (50, 95, 99)}


def outcomes(*kinds: str) -> str:
    alternatives = "|".join(kinds)
    return rate("attempts_total", selector=f', outcome=~"{alternatives}"')


DELIVERED_SHARE = f"{outcomes('delivered')} / {rate('attempts_total')}"
IN_TIME = rate("first_attempt_delay_seconds_bucket", selector=', le="30.0"')
ON_TIME = f"{IN_TIME} / {rate('first_attempt_delay_seconds_count')}"
POOL_SHARE = (
    'max by (stage) (scorm_webhooks_database_connections{$process, state="in_use"}'
    " / ignoring (state) (scorm_webhooks_database_pool_size{$process} > 0))"
)
GROUP = '$deployment, group=~"$group"'
LAG_RECORDS = (
    "sum by (group) (max by (namespace, group, topic)"
    f' (scorm_webhooks_group_lag_records{{{GROUP}, topic!~".*retry.*"}}))'
)

ROWS: dict[str, list[Panel]] = {
    "Traffic": [
        Panel("Events by type", "ops", {rate("events_total", "type"): "{{type}}"}),
        Panel(
            "Deliveries and attempts",
            "ops",
            {rate("deliveries_created_total"): "deliveries created", rate("attempts_total"): "attempts"},
        ),
        Panel("Requests to the API by status", "reqps", {rate("api_requests_total", "status"): "{{status}}"}),
    ],
    "Success": [
        Panel(
            "Attempts by class of outcome",
            "ops",
            {
                outcomes("delivered"): "delivered",
                outcomes("redirect", "client_error", "server_error", "gone", "throttled", "invalid_response"): (
                    "endpoint responded with an error"
                ),
                outcomes("timeout", "reset", "tls"): "endpoint did not respond",
                outcomes("dns", "refused", "connect_timeout"): "endpoint not reached",
                outcomes("unsendable", "forbidden_address", "credentials", "token_unavailable", "proxy_error"): (
                    "not sent by us"
                ),
            },
        ),
        Panel("Share of attempts delivered", "percentunit", {DELIVERED_SHARE: "delivered"}, "The customers' part."),
        Panel(
            "Leases of readers, by outcome",
            "ops",
            {rate("leases_total", by="outcome"): "{{outcome}}"},
            "Of pull webhooks.",
        ),
        Panel(
            "First attempts on time",
            "percentunit",
            {ON_TIME: "within 30 seconds"},
            "Our part. The objective is 99.9 % over 30 days.",
        ),
    ],
    "Latency": [
        Panel("Event to first attempt", "s", percentiles("first_attempt_delay_seconds"), "Without held deliveries."),
        Panel("Attempt", "s", percentiles("attempt_seconds"), "The endpoints' time."),
        Panel("Event to delivered", "s", percentiles("event_to_delivered_seconds"), "Retries included."),
    ],
    "Lag": [
        Panel("Lag in records", "short", {LAG_RECORDS: "{{group}}"}, "Without what waits in retry topics."),
        Panel("Lag in seconds", "s", {largest("group_lag_seconds", "group, topic", GROUP): "{{group}} {{topic}}"}),
        Panel(
            "Oldest delivery that is due",
            "s",
            {
                largest("deliver_overdue_seconds"): "waits for a slot",
                largest("retries_overdue_seconds", selector="$deployment"): "retry",
            },
        ),
    ],
    "Tiers and held deliveries": [
        Panel("Retries that wait, by tier", "short", {whole("retries_waiting", "tier"): "{{tier}}"}),
        Panel(
            "Lateness of retries, by tier", "s", {largest("retries_overdue_seconds", "tier", "$deployment"): "{{tier}}"}
        ),
        Panel("Held deliveries, by reason", "short", {whole("held_deliveries", "reason"): "{{reason}}"}),
    ],
    "Dead letters and pauses": [
        Panel("Undecided dead letters", "short", {whole("undecided_dead_letters", "reason"): "{{reason}}"}),
        Panel("Deliveries given up", "ops", {rate("dead_letters_total", "reason"): "{{reason}}"}),
        Panel(
            "Oldest undecided and oldest held",
            "s",
            {
                largest("undecided_dead_letters_oldest_seconds", "reason", "$deployment"): "dead: {{reason}}",
                largest("held_deliveries_oldest_seconds", "reason", "$deployment"): "held: {{reason}}",
            },
        ),
        Panel("Webhooks by status", "short", {whole("webhooks", "status"): "{{status}}"}),
        Panel("Webhooks paused automatically", "ops", {rate("webhooks_paused_total", "reason"): "{{reason}}"}),
        Panel("Mails by outcome", "ops", {rate("mails_total", "outcome"): "{{outcome}}"}),
    ],
    "Saturation": [
        Panel(
            "Slots in use",
            "short",
            {"sum by (endpoint_class) (scorm_webhooks_slots_in_use{$process})": "{{endpoint_class}}"},
        ),
        Panel(
            "Deliveries in memory",
            "short",
            {
                "sum (scorm_webhooks_slots_waiting{$process})": "wait for a slot",
                "sum (scorm_webhooks_records_open{$process})": "open",
            },
        ),
        Panel("Delay of the event loop", "s", {largest("event_loop_lag_seconds", "stage"): "{{stage}}"}),
        Panel("Database connections in use", "percentunit", {POOL_SHARE: "{{stage}}"}),
        Panel("Processes that are ready", "short", {"sum by (stage) (scorm_webhooks_ready{$process})": "{{stage}}"}),
        Panel(
            "Processes by release",
            "short",
            {"count by (version, python) (scorm_webhooks_build_info{$process})": "{{version}}, Python {{python}}"},
        ),
    ],
    "Kafka": [
        Panel(
            "Errors",
            "ops",
            {
                rate("produce_errors_total", "stage"): "{{stage}}: produced again",
                rate("commit_errors_total", "stage"): "{{stage}}: commit failed",
            },
        ),
        Panel("Rebalances", "ops", {rate("rebalances_total", "stage"): "{{stage}}"}),
        Panel("Invalid records", "ops", {rate("invalid_records_total", "topic"): "{{topic}}"}),
        Panel("Clock against the broker's", "s", {largest("clock_skew_seconds", "stage"): "{{stage}}"}),
        Panel(
            "Partitions that wait for a newer release",
            "short",
            {"sum by (stage) (scorm_webhooks_partitions_of_newer_release{$process})": "{{stage}}"},
        ),
        Panel("Attempts postponed", "ops", {rate("attempts_postponed_total"): "postponed"}),
    ],
    "SQL": [
        Panel(
            "Database connections",
            "short",
            {"sum by (stage, state) (scorm_webhooks_database_connections{$process})": "{{stage}} {{state}}"},
        ),
        Panel("Records stored", "ops", {rate("records_stored_total"): "stored"}),
        Panel(
            "Rows refused and pruned",
            "ops",
            {rate("records_refused_total"): "refused", rate("rows_pruned_total", "kind"): "pruned: {{kind}}"},
        ),
        Panel("Retention is behind", "s", {largest("retention_behind_seconds", "kind"): "{{kind}}"}),
    ],
}
_SELECTORS = {"$process": 'namespace=~"$namespace", job=~"$job"', "$deployment": 'namespace=~"$namespace"'}


def with_selectors(expr: str) -> str:
    for name, selector in _SELECTORS.items():
        expr = expr.replace(name, selector)
    return expr


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression with the title of its panel."""
    for panels in ROWS.values():
        for panel in panels:
            for expr in panel.lines:
                yield panel.title, with_selectors(expr)


def in_prometheus(expr: str) -> str:
    """The expression without Grafana's variables: of every deployment, and as rates of a minute."""
    every = re.sub(r'\w+=~"\$\w+"(, )?', "", expr.replace("$__rate_interval", "1m"))
    return every.replace("{}", "")


def dashboard() -> dict[str, Any]:
    return {
        "uid": "scorm-webhooks",
        "title": "scorm-webhooks",
        "tags": ["scorm-webhooks"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), *map(_variable, ("namespace", "job", "group"))]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable(label: str) -> dict[str, Any]:
    metric = {"namespace": "ready", "job": 'ready{namespace=~"$namespace"}', "group": "group_lag_seconds"}[label]
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values(scorm_webhooks_{metric}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        # A deployment outside of Kubernetes has no namespace: the value matches a label that is absent too.
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    top = number = 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH * PANELS_A_LINE, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        for index, panel in enumerate(panels):
            number += 1
            line, column = divmod(index, PANELS_A_LINE)
            yield _graph(number, panel, x=column * WIDTH, y=top + line * HEIGHT)
        top += -(-len(panels) // PANELS_A_LINE) * HEIGHT


def _graph(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": with_selectors(expr), "legendFormat": legend}
        for index, (expr, legend) in enumerate(panel.lines.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        **({"description": panel.description} if panel.description else {}),
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
