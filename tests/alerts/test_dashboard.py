"""The Grafana dashboard is what its module makes, and has the structure that Grafana reads."""

import json
from typing import Any

from alerts.metrics import known, named_in
from grafana_dashboard import DASHBOARD, PANELS_A_LINE, ROWS, WIDTH, expressions, text
from streams.core.deliveries.outcome import LEASE_KINDS, OutcomeKind

# A ConfigMap takes 1 MiB; a person who reads a diff takes less.
LARGEST = 64 * 1024


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_the_file_is_what_the_module_makes() -> None:
    assert DASHBOARD.read_text() == text(), "run: make generated"


def test_the_dashboard_is_small() -> None:
    assert DASHBOARD.stat().st_size < LARGEST


def test_no_panel_covers_another() -> None:
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels()):
        assert place["x"] + place["w"] <= WIDTH * PANELS_A_LINE
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells
        cells |= covered


def test_every_panel_has_its_own_id_and_a_line() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    graphs = [panel for panel in panels() if panel["type"] != "row"]
    assert len(graphs) == sum(map(len, ROWS.values()))
    assert all(panel["targets"] and panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in graphs)


def test_every_variable_is_used() -> None:
    [datasource, *variables] = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert datasource["type"] == "datasource"
    queries = " ".join(query for _, query in expressions())
    assert [variable["name"] for variable in variables if f"${variable['name']}" not in queries] == []


def test_every_outcome_is_in_one_class() -> None:
    classes = next(panel for panel in ROWS["Success"] if "class of outcome" in panel.title).lines
    shown = [kind for expr in classes for kind in expr.partition('outcome=~"')[2].partition('"')[0].split("|")]
    assert sorted(shown) == sorted(set(OutcomeKind) - LEASE_KINDS)


def test_the_dashboard_shows_what_alerts_watch() -> None:
    shown = {name for _, query in expressions() for name, _ in named_in(query)}
    assert {"group_lag_seconds", "retries_overdue_seconds", "undecided_dead_letters", "clock_skew_seconds"} <= shown
    assert shown <= known().keys()
