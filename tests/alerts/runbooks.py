"""The pages of docs/runbooks."""

import re
from pathlib import Path

from alerts.rules import RUNBOOKS

TABLE = RUNBOOKS / "README.md"


def pages() -> list[Path]:
    return sorted(path for path in RUNBOOKS.glob("*.md") if path != TABLE)


def rows() -> dict[tuple[str, str], set[str]]:
    """The severities by alert and page, in the order of the table."""
    found = re.findall(r"^\| \[(\w+)\]\((\w+\.md)\) \| ([\w, ]+) \| .+ \|$", TABLE.read_text(), re.MULTILINE)
    return {(name, page): set(severities.split(", ")) for name, page, severities in found}


def queries(page: Path) -> list[str]:
    """The PromQL expressions of a page, one a line."""
    found = re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines()]


def shell_lines(page: Path) -> list[str]:
    found = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines()]


def commands(page: Path) -> list[list[str]]:
    """The words of each `scorm-webhooks …` on a page. Lists of two commands in one line are not shell."""
    spans = re.findall(r"`scorm-webhooks ([^`…]+)`", page.read_text())
    lines = [line.removeprefix("scorm-webhooks ") for line in shell_lines(page) if line.startswith("scorm-webhooks ")]
    return [words.split() for words in (*spans, *lines)]
