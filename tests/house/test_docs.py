"""The documents say what the code does: every setting, topic, metric, file and command, and no other."""

import re
from pathlib import Path

import typer

from streams import settings, telemetry
from streams.cli.app import app
from streams.core.schedule import parse_schedule
from streams.topics import declare

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def first_column(document: str) -> set[str]:
    """The names in the first column of a document's tables."""
    text = (ROOT / "docs" / document).read_text()
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    documented = {name for name in first_column("settings.md") if name.startswith(settings.PREFIX)}
    assert documented == set(settings.names())


def test_every_topic_is_documented_and_no_other() -> None:
    declared = {topic.name for topic in declare(parse_schedule("30s,2m,10m,1h,6h"), 12, 24)}
    assert first_column("topics.md") == declared


def test_every_metric_is_documented_and_no_other() -> None:
    declared = {*telemetry.COUNTERS, *telemetry.GAUGES, *telemetry.HISTOGRAMS}
    assert first_column("metrics.md") == {f"{telemetry.NAMESPACE}_{name}" for name in declared}


def test_every_metric_is_used() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "streams").rglob("*.py") if path.name != "telemetry.py")
    for name in (*telemetry.COUNTERS, *telemetry.GAUGES, *telemetry.HISTOGRAMS):
        assert f'"{name}"' in sources, name


def test_every_file_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"`((?:streams|schemas|docs|tests)/[\w./-]+)`", README))
    named |= set(re.findall(r"\]\(([\w./-]+)\)", README))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_command_that_the_readme_names_is_there() -> None:
    group = typer.main.get_command(app)
    named = set(re.findall(r"scorm-webhooks ([a-z-]+)(?: ([a-z]+))?", README))
    assert len(named) > 8
    for name, verb in named:
        command = getattr(group, "commands")[name]  # noqa: B009 – typer's click has no public type
        if verb and hasattr(command, "commands"):
            assert verb in command.commands, f"{name} {verb}"


def test_the_two_commands_come_first() -> None:
    assert README.index("make demo") < README.index("make test") < README.index("scorm-webhooks up")


def test_a_document_leads_nowhere_that_is_not_there() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([\w./-]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
