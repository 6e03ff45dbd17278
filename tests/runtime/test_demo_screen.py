"""The live panel of the demo, on the smallest usual terminal."""

import io
from pathlib import Path

from rich.console import Console

from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import StateCount
from streams.demo.customers import make_customers
from streams.demo.screen import CustomerRow, Snapshot, draw, links_text

COLUMNS, LINES = 80, 24
URL = "http://127.0.0.1:19999"


def panel_lines() -> list[str]:
    counts = [StateCount(state, "8s", "exhausted", 1000) for state in State]
    customers = [CustomerRow(customer.name, customer.says, "paused", counts) for customer in make_customers()]
    console = Console(file=io.StringIO(), width=COLUMNS)
    console.print(draw(Snapshot(1000, customers, [0.05])))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_each_customer_of_the_demo_has_one_line() -> None:
    lines = panel_lines()
    for customer in make_customers():
        assert sum(customer.name in line and customer.says in line for line in lines) == 1


def test_the_links_and_the_panel_fit_a_small_terminal() -> None:
    links = links_text(
        Path("/tmp/scorm-webhooks-demo-abcdefgh/data"), URL, f"{URL}/sign-in/{'x' * 43}", "x" * 46
    ).splitlines()
    assert max(map(len, links)) <= COLUMNS
    # One line before the links, and that of the cursor.
    assert 1 + len(links) + len(panel_lines()) + 1 <= LINES
    assert "Ctrl-C ends it" in panel_lines()[-1]
