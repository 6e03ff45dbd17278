"""Each alert fires, does not fire on a harmless picture, ends, and says what it means."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.rules import PREFIX, RULES, Alert, alerts, promtool

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
# What a template shows where a label or a value is missing, or is empty.
UNFINISHED = re.compile(r"<no value>|error expanding|%!|  | [.,:]|^ | (of|stage|reason|tier)$")


def pictures(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["tests"]
    return found


@pytest.mark.usefixtures("promtool_program")
def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", "--lint-fatal", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.usefixtures("promtool_program")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_alerts_fire_and_end(path: Path) -> None:
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_seen_before_during_and_after() -> None:
    for name in {alert.name for alert in alerts()}:
        [test] = [test for path in FILES for test in pictures(path) if PREFIX + test["name"] == name]
        seen = [len(expected["exp_samples"]) for expected in test["promql_expr_test"]]
        assert len(seen) >= 3, name
        assert max(seen) > seen[0], name
        assert max(seen) > seen[-1], name


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{'-'.join(alert.labels.values())}")
def test_an_alert_has_a_wait_a_severity_and_words(alert: Alert) -> None:
    assert re.fullmatch(rf"{PREFIX}[A-Z]\w+", alert.name)
    assert re.fullmatch(r"\d+[mh]", alert.wait)
    assert alert.labels["severity"] in ("critical", "warning")
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/runbooks/{alert.page}"
    assert len(alert.annotations["summary"]) <= 80
    assert alert.annotations["description"].endswith(".")


@pytest.mark.usefixtures("promtool_program")
@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "quiet"], ids=lambda path: path.stem)
def test_an_alert_shows_its_labels_and_numbers(path: Path, tmp_path: Path) -> None:
    texts = shown_texts(path, tmp_path)
    assert len(texts) >= len(pictures(path))
    assert [text for text in texts if UNFINISHED.search(text)] == []


def shown_texts(path: Path, folder: Path) -> list[str]:
    """Summaries and descriptions as people get them: promtool shows them where it expects no alert."""
    whole = yaml.safe_load(path.read_text())
    whole["rule_files"] = [str(RULES)]
    for test in whole["tests"]:
        first = next(one["eval_time"] for one in test.pop("promql_expr_test") if one["exp_samples"])
        test["alert_rule_test"] = [{"eval_time": first, "alertname": PREFIX + test["name"], "exp_alerts": []}]
    (folder / "expects-none.yaml").write_text(yaml.safe_dump(whole))
    shown = promtool("test", "rules", folder / "expects-none.yaml")
    return re.findall(r'(?:summary|description)="((?:[^"\\]|\\.)*)"', shown.stdout + shown.stderr)
