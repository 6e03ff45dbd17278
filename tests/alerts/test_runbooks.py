"""Every alert has a page and a row, and what a page names exists."""

import re
from pathlib import Path

import pytest
from house.test_docs import command_of

from alerts.metrics import grouped_in_vain, unknown_in
from alerts.rules import ROOT, alerts
from alerts.runbooks import TABLE, commands, pages, queries, rows, shell_lines
from streams.runtime.startup import STAGES

SECTIONS = ["Meaning", "Look here", "Do this", "Wake"]
PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
SOURCES = "".join(path.read_text() for folder in ("streams", "api") for path in (ROOT / folder).rglob("*.py"))


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.name for page in pages()} == {alert.page for alert in alerts()}


def test_the_table_has_the_alerts_in_their_order() -> None:
    severities: dict[tuple[str, str], set[str]] = {}
    for alert in alerts():
        severities.setdefault((alert.name, alert.page), set()).add(alert.labels["severity"])
    assert list(rows().items()) == list(severities.items())


@PAGES
def test_a_pages_title_has_the_alerts_that_lead_to_it(page: Path) -> None:
    names = list(dict.fromkeys(alert.name for alert in alerts() if alert.page == page.name))
    assert page.stem == names[0]
    assert page.read_text().startswith(f"# {', '.join(names)}\n")


@PAGES
def test_a_page_says_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert queries(page)
    assert shell_lines(page)


@PAGES
def test_a_page_names_known_metrics_only(page: Path) -> None:
    assert unknown_in(page.read_text()) == []
    assert {query: labels for query in queries(page) if (labels := grouped_in_vain(query))} == {}


@pytest.mark.parametrize("page", [TABLE, *pages()], ids=lambda page: page.stem)
def test_a_command_of_a_page_exists(page: Path) -> None:
    for words in commands(page):
        command, rest = command_of(words)
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, " ".join(words)


@PAGES
def test_a_page_names_log_lines_and_stages_that_exist(page: Path) -> None:
    lines = "\n".join(shell_lines(page))
    events = {event for found in re.findall(r'grep (?:-E )?"?([\w|]+)', lines) for event in found.split("|")}
    assert {event for event in events if not re.search(rf'"{event}|_{event}|\b{event}"', SOURCES)} == set()
    assert set(re.findall(r"component=([\w-]+)", lines)) <= {*STAGES}
