"""Every expression of rules, pages and panels is PromQL, and names metrics that exist."""

from pathlib import Path

import pytest
import yaml
from alerts.metrics import unknown_in
from alerts.rules import RULES, promtool
from alerts.runbooks import pages, queries
from alerts.test_rules import FILES


def expressions() -> list[tuple[str, str]]:
    """Each expression outside of the rules, with its place."""
    return [(page.stem, query) for page in pages() for query in queries(page)]


@pytest.mark.usefixtures("promtool_program")
def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"expression:{number}", "expr": query} for number, (_, query) in enumerate(expressions())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint", "none", tmp_path / "rules.yaml")
    assert checked.returncode == 0, checked.stderr


def test_every_expression_names_known_metrics_only() -> None:
    wrong = {f"{place}: {query}": unknown_in(query) for place, query in expressions()}
    assert {place: names for place, names in wrong.items() if names} == {}


@pytest.mark.parametrize("path", [RULES, *FILES], ids=lambda path: path.stem)
def test_rules_and_their_tests_name_known_metrics_only(path: Path) -> None:
    assert unknown_in(path.read_text()) == []
