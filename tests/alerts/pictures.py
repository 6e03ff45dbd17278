"""Pictures of Prometheus' own pages, for documents."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, expect

import parts
from browser.chromium import WIDE, open_context, running_chromium
from grafana_dashboard import ROWS, in_prometheus, with_selectors

ALERTS, GRAPHS = "prometheus-alerts.png", "prometheus-graphs.png"
# Panels of the dashboard that have one expression, by their titles.
SHOWN = ("Processes that are ready", "Lag in records", "Undecided dead letters", "Clock against the broker's")
PANELS = {panel.title: panel for panels in ROWS.values() for panel in panels}


def take_alerts(url: str, folder: Path) -> None:
    """The alerts that fire, each opened."""
    with _page(url) as page:
        page.goto("/classic/alerts")
        for others in ("Inactive", "Pending"):
            page.locator("#alertFilters label", has_text=others).click()
        for alert in page.locator("tr.alert-danger").all():
            alert.click()
        _to_the_top(page)
        page.screenshot(path=folder / ALERTS, full_page=True)


def take_graphs(url: str, minutes: int, folder: Path) -> None:
    """Some panels of the dashboard, over the last minutes."""
    query: dict[str, str] = {}
    for number, title in enumerate(SHOWN):
        [expr] = PANELS[title].lines
        shown = in_prometheus(with_selectors(expr))
        query |= {f"g{number}.expr": shown, f"g{number}.tab": "0", f"g{number}.range_input": f"{minutes}m"}
    with _page(url) as page:
        page.goto(f"/classic/graph?{urlencode(query)}")
        expect(page.locator(".rickshaw_graph svg")).to_have_count(len(SHOWN))
        _to_the_top(page)
        page.screenshot(path=folder / GRAPHS, full_page=True)


def _to_the_top(page: Page) -> None:
    """The bar of the page is drawn where the page is scrolled to."""
    page.evaluate("scrollTo(0, 0)")


@contextmanager
def _page(url: str) -> Iterator[Page]:
    program = parts.chromium()
    assert program, "tests/parts.py brings Chromium"
    with running_chromium(program) as browser, open_context(browser, url, WIDE) as (context, _):
        yield context.new_page()
