"""The small deployment has the same few partitions wherever it is described."""

import re
from pathlib import Path

import yaml

from streams.settings import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EVENTS, DELIVERIES = "SCORM_WEBHOOKS_EVENT_PARTITIONS", "SCORM_WEBHOOKS_DELIVERY_PARTITIONS"
SIX = {EVENTS: "6", DELIVERIES: "6"}


def named_in(text: str) -> dict[str, str]:
    """The numbers of partitions that a text sets."""
    found = re.findall(rf"\b({EVENTS}|{DELIVERIES})=(\d+)\b", text)
    assert len(found) == 2, found
    return dict(found)


def test_the_chart_names_the_numbers() -> None:
    settings = yaml.safe_load((DEPLOY / "helm" / "values" / "small.yaml").read_text())["settings"]
    assert settings == {"eventPartitions": 6, "deliveryPartitions": 6}


def test_compose_names_the_numbers() -> None:
    services = yaml.safe_load((DEPLOY / "compose.small.yaml").read_text())["services"]
    # No stage reads them: `topics apply` makes the topics.
    assert services["topics"]["environment"] == {name: f"${{{name}:-{number}}}" for name, number in SIX.items()}


def test_the_environment_of_systemd_names_the_numbers() -> None:
    example = (DEPLOY / "systemd" / "environment.example").read_text()
    assert named_in(example) == SIX
    # They are for the small deployment alone.
    assert load_settings(dict(re.findall(r"^(\w+)=(.+)$", example, re.MULTILINE))).event_partitions == 12


def test_the_document_names_the_numbers() -> None:
    section = (ROOT / "docs" / "stages.md").read_text().split("## The small deployment")[1]
    commands = section.split("```sh")[1]
    assert named_in(commands) == SIX
