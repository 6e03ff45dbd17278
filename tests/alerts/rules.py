"""The rules of Prometheus that the chart and compose use, and promtool, which checks them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

import parts

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "helm" / "scorm-webhooks" / "files" / "rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
PREFIX = "ScormWebhooks"


@dataclass(frozen=True)
class Alert:
    """An alert of the rules; several with one name differ in severity or window."""

    name: str
    expr: str
    wait: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def page(self) -> str:
        """The name of its file in docs/runbooks."""
        return self.annotations["runbook_url"].removeprefix("docs/runbooks/")


def alerts() -> list[Alert]:
    found = (rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"])
    return [
        Alert(rule["alert"], rule["expr"], rule["for"], rule["labels"], rule["annotations"])
        for rule in found
        if "alert" in rule
    ]


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = parts.promtool()
    assert program, "no promtool here; `python3 tests/parts.py` brings it"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
